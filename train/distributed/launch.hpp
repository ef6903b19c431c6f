// Several processes of one program on this machine, through mpirun: what
// `lumachrome train --processes R` is made of. On several machines, start the program with mpirun
// or srun yourself (train/distributed/README.md).
#pragma once
#include <string>
#include <vector>

namespace lumachrome {

struct Launched {
    int code;          // exit code for this process
    std::string note;  // what to tell the user; empty: nothing
};

// Runs `program arguments...` as `count` processes and waits for them. The exit code is that of the
// process that failed first, 75 if one was killed. While it waits, SIGINT, SIGTERM, SIGHUP and
// SIGUSR1 reach the processes as SIGUSR1, which asks to save and stop; the second one ends them at
// once. Throws ResourceError when this build has no MPI, or there is no Open MPI mpirun; UsageError
// within a process that mpirun or srun started.
Launched launch_processes(int count, const std::string& program,
                          std::vector<std::string> arguments);

}  // namespace lumachrome
