// The one tensor type: a shape, an element type and reference-counted memory, always contiguous in
// row-major order (NHWC for activations, KRSC for filters). It knows nothing of gradients.
// Copying a Tensor shares its memory; clone() and to() are the only copies, both spelled out.
#pragma once
#include <cstddef>
#include <memory>

#include "tensor/device.hpp"
#include "tensor/dtype.hpp"
#include "tensor/shape.hpp"
#include "tensor/view.hpp"

namespace lumachrome {

class Tensor {
  public:
    Tensor() = default;
    // Uninitialised; NaN-filled in debug builds, so that reading before writing shows.
    static Tensor empty(Shape shape, DType dtype = DType::f32, Device device = {});
    static Tensor zeros(Shape shape, DType dtype = DType::f32, Device device = {});
    static Tensor full(Shape shape, double value, DType dtype = DType::f32, Device device = {});

    // Memory of somebody else, who keeps it alive.
    static Tensor borrow(float* memory, Shape shape);
    // A part of larger memory, which lives as long as any of its parts.
    static Tensor part(std::shared_ptr<std::byte> memory, Shape shape, DType dtype,
                       Device device = {});

    bool defined() const { return defined_; }
    const Shape& shape() const { return shape_; }
    DType dtype() const { return dtype_; }
    Device device() const { return device_; }
    int64_t numel() const { return shape_.numel(); }
    int64_t bytes() const { return numel() * size_in_bytes(dtype_); }

    template <class T>
    T* data() const {
        require(dtype_of<T>());
        return reinterpret_cast<T*>(raw());
    }
    template <class T>
    View<T> view() const {
        return {data<std::remove_const_t<T>>(), shape_};
    }
    std::byte* raw() const;                // throws on the meta device
    double item(int64_t index = 0) const;  // waits where it lies on a GPU

    Tensor reshape(Shape shape) const;  // same memory, same numel
    Tensor batch(int64_t n) const;      // same memory: sample n as a batch of one
    Tensor clone() const;
    Tensor to(DType dtype) const;    // a copy, unless the type is already right
    Tensor to(Device device) const;  // a copy, unless it is already there
    // Same shape; from any device to any, converting between f32, f64 and bf16.
    void copy_from(const Tensor& source) const;
    void fill(double value) const;
    void add(double value) const;  // to every element

  private:
    void require(DType dtype) const;
    bool defined_ = false;
    Shape shape_;
    DType dtype_ = DType::f32;
    Device device_;
    std::shared_ptr<std::byte> storage_;
};

bool all_finite(const Tensor& tensor);
bool bit_equal(const Tensor& a, const Tensor& b);  // shape, dtype and every bit

}  // namespace lumachrome
