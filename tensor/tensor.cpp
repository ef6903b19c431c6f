#include "tensor/tensor.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "tensor/cuda.hpp"
#include "tensor/error.hpp"
#include "tensor/storage.hpp"

namespace lumachrome {

Tensor Tensor::empty(Shape shape, DType dtype, Device device) {
    Tensor t;
    t.defined_ = true;
    t.shape_ = shape;
    t.dtype_ = dtype;
    t.device_ = device;
    if (device.kind != Device::meta) t.storage_ = allocate(t.bytes(), device);
#ifndef NDEBUG
    if (device.kind == Device::cpu && size_in_bytes(dtype) >= 4)
        t.fill(std::numeric_limits<double>::quiet_NaN());
#endif
    return t;
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
    Tensor t = empty(shape, dtype, device);
    if (device.kind == Device::cpu) std::memset(t.raw(), 0, static_cast<size_t>(t.bytes()));
    if (device.kind == Device::cuda) t.fill(0);
    return t;
}

Tensor Tensor::full(Shape shape, double value, DType dtype, Device device) {
    Tensor t = empty(shape, dtype, device);
    t.fill(value);
    return t;
}

Tensor Tensor::borrow(float* memory, Shape shape) {
    return part({std::shared_ptr<std::byte>(), reinterpret_cast<std::byte*>(memory)}, shape,
                DType::f32);
}

Tensor Tensor::part(std::shared_ptr<std::byte> memory, Shape shape, DType dtype, Device device) {
    Tensor t;
    t.defined_ = true;
    t.shape_ = shape;
    t.dtype_ = dtype;
    t.device_ = device;
    t.storage_ = std::move(memory);
    return t;
}

std::byte* Tensor::raw() const {
    if (!storage_)
        throw Error("tensor " + shape_.str() + " on " + device_.str() + " has no memory to read");
    return storage_.get();
}

void Tensor::require(DType dtype) const {
    if (dtype != dtype_)
        throw Error("tensor " + shape_.str() + " is " + name(dtype_) + ", not " + name(dtype));
}

double Tensor::item(int64_t index) const {
    if (index < 0 || index >= numel())
        throw ShapeError("item " + std::to_string(index) + " of tensor " + shape_.str());
    if (device_.kind == Device::cuda) {
        const Tensor here =
            part({storage_, raw() + index * size_in_bytes(dtype_)}, {1}, dtype_, device_)
                .to(Device{});
        return here.item();
    }
    if (dtype_ == DType::bf16) return double(data<bf16>()[index]);
    return dispatch_float(dtype_, [&](auto t) { return double(data<decltype(t)>()[index]); });
}

Tensor Tensor::reshape(Shape shape) const {
    if (shape.numel() != numel())
        throw ShapeError("reshape: " + shape_.str() + " does not hold as many as " + shape.str());
    Tensor t = *this;
    t.shape_ = shape;
    return t;
}

Tensor Tensor::batch(int64_t n) const {
    if (shape_.rank() == 0 || n < 0 || n >= shape_[0])
        throw ShapeError("batch: sample " + std::to_string(n) + " of tensor " + shape_.str());
    Tensor t = *this;
    const int64_t stride = bytes() / shape_[0];
    switch (shape_.rank()) {
        case 1:
            t.shape_ = {1};
            break;
        case 2:
            t.shape_ = {1, shape_[1]};
            break;
        case 3:
            t.shape_ = {1, shape_[1], shape_[2]};
            break;
        default:
            t.shape_ = {1, shape_[1], shape_[2], shape_[3]};
    }
    if (storage_) t.storage_ = {storage_, storage_.get() + n * stride};
    return t;
}

Tensor Tensor::clone() const {
    Tensor t = empty(shape_, dtype_, device_);
    if (storage_) t.copy_from(*this);
    return t;
}

Tensor Tensor::to(DType dtype) const {
    if (dtype == dtype_) return *this;
    Tensor t = empty(shape_, dtype, device_);
    if (storage_) t.copy_from(*this);
    return t;
}

Tensor Tensor::to(Device device) const {
    if (device == device_) return *this;
    Tensor t = empty(shape_, dtype_, device);
    if (device.kind != Device::meta) t.copy_from(*this);
    return t;
}

void Tensor::copy_from(const Tensor& source) const {
    if (source.shape_ != shape_)
        throw ShapeError("copy: " + source.shape_.str() + " into " + shape_.str());
    const bool host = device_.kind == Device::cpu && source.device_.kind == Device::cpu;
    if (source.dtype_ == dtype_) {
        if (host)
            std::memcpy(raw(), source.raw(), static_cast<size_t>(bytes()));
        else
            cuda::copy(raw(), device_, source.raw(), source.device_, bytes());
        return;
    }
    if (!host) {  // converted where the source lies
        if (source.device_ != device_) return copy_from(source.to(dtype_));
        return cuda::convert(*this, source);
    }
    if (dtype_ == DType::bf16 && source.dtype_ == DType::f32) {
        for (int64_t i = 0; i < numel(); ++i) data<bf16>()[i] = bf16(source.data<float>()[i]);
        return;
    }
    if (dtype_ == DType::bf16) return copy_from(source.to(DType::f32));
    if (source.dtype_ == DType::bf16) {
        const Tensor wide = empty(shape_, DType::f32);
        widen(DType::bf16, reinterpret_cast<const uint16_t*>(source.raw()), numel(),
              wide.data<float>());
        return copy_from(wide);
    }
    dispatch_float(dtype_, [&](auto to) {
        dispatch_float(source.dtype_, [&](auto from) {
            auto* out = data<decltype(to)>();
            const auto* in = source.data<decltype(from)>();
            for (int64_t i = 0; i < numel(); ++i) out[i] = static_cast<decltype(to)>(in[i]);
        });
    });
}

void Tensor::fill(double value) const {
    if (device_.kind == Device::cuda) return cuda::fill(*this, value);
    dispatch_float(dtype_, [&](auto t) {
        using T = decltype(t);
        std::fill_n(data<T>(), numel(), static_cast<T>(value));
    });
}

void Tensor::add(double value) const {
    if (device_.kind == Device::cuda) return cuda::add(*this, value);
    dispatch_float(dtype_, [&](auto t) {
        using T = decltype(t);
        for (int64_t i = 0; i < numel(); ++i)
            data<T>()[i] = static_cast<T>(value + double(data<T>()[i]));
    });
}

bool all_finite(const Tensor& tensor) {
    if (tensor.device().kind == Device::cuda) return cuda::all_finite(tensor);
    return dispatch_float(tensor.dtype(), [&](auto t) {
        const auto* x = tensor.data<decltype(t)>();
        return std::all_of(x, x + tensor.numel(), [](auto v) { return std::isfinite(v); });
    });
}

bool bit_equal(const Tensor& a, const Tensor& b) {
    if (a.device() != Device{} || b.device() != Device{})
        return bit_equal(a.to(Device{}), b.to(Device{}));
    return a.shape() == b.shape() && a.dtype() == b.dtype() &&
           std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.bytes())) == 0;
}

}  // namespace lumachrome
