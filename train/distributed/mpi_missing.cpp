// Stands in for mpi.cpp in a build without MPI.
#include "train/distributed/communicator.hpp"

namespace lumachrome {

std::unique_ptr<Communicator> mpi_communicator() {
    throw ResourceError("this build has no MPI");
}

bool mpi_available() {
    return false;
}

std::string mpi_version() {
    return "not built";
}

}  // namespace lumachrome
