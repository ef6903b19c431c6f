// In place of cuda/*.cu in a build without the CUDA Toolkit.
#include "tensor/cuda.hpp"
#include "tensor/cuda_async.hpp"
#include "tensor/cuda_graph.hpp"
#include "tensor/error.hpp"

namespace lumachrome::cuda {
namespace {

[[noreturn]] void missing() {
    throw ResourceError("device cuda: " + unavailable());
}

}  // namespace

const std::string& unavailable() {
    static const std::string reason = "this build has no CUDA backend";
    return reason;
}
int device_count() {
    return 0;
}
const Properties& properties(int) {
    missing();
}
std::string versions() {
    return {};
}
std::byte* take_segment(int, int64_t) {
    missing();
}
void give_back_segment(int, std::byte*) {}
void copy(std::byte*, Device, const std::byte*, Device, int64_t) {
    missing();
}
std::byte* take_pinned(int64_t) {
    missing();
}
void give_back_pinned(std::byte*) {}
void synchronize(Device) {
    missing();
}
void fill(const Tensor&, double) {
    missing();
}
void add(const Tensor&, double) {
    missing();
}
void convert(const Tensor&, const Tensor&) {
    missing();
}
bool all_finite(const Tensor&) {
    missing();
}

void copy_behind(Device, std::byte*, const std::byte*, int64_t) {
    missing();
}
struct Marker::State {};
Marker::Marker(Device) {
    missing();
}
Marker::~Marker() = default;
void Marker::set() {}
void Marker::wait() const {}

struct Graph::State {};
Graph::Graph(Device) {
    missing();
}
Graph::~Graph() = default;
void Graph::capture(const std::function<void()>&) {}
bool Graph::captured() const {
    return false;
}
void Graph::clear() {}
void Graph::replay() {}

}  // namespace lumachrome::cuda
