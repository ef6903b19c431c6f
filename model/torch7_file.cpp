#include "model/torch7_file.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_map>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

using Kind = Torch7Value::Kind;
using Object = Torch7Object;

constexpr size_t kMaxValues = 100'000;  // the published file has some thousands
constexpr size_t kMaxEntries = 1000;    // of a table that is searched
constexpr int32_t kMaxRank = 8;

enum Tag : int32_t {
    kNil,
    kNumber,
    kText,
    kTable,
    kTorch,
    kBoolean,
    kOldFunction,  // the only one without an index
    kLegacyFunction,
    kFunction
};

struct ElementType {
    std::string_view stem;  // torch.FLOATTensor, torch.CudaFLOATStorage
    int64_t bytes;          // 0: a long
    Object::Element element;
};
constexpr ElementType kElements[] = {
    {"Byte", 1, Object::Element::other},  {"Char", 1, Object::Element::other},
    {"Short", 2, Object::Element::other}, {"Int", 4, Object::Element::other},
    {"Long", 0, Object::Element::other},  {"Half", 2, Object::Element::f16},
    {"Float", 4, Object::Element::f32},   {"Double", 8, Object::Element::f64},
};

// Of "torch.FloatTensor" with the ending "Tensor"; null for another class.
const ElementType* element_type(std::string_view class_name, std::string_view ending) {
    constexpr std::string_view kTorchPrefix = "torch.", kCuda = "Cuda";
    if (!class_name.starts_with(kTorchPrefix) || !class_name.ends_with(ending)) return nullptr;
    class_name.remove_prefix(kTorchPrefix.size());
    if (class_name.size() < ending.size()) return nullptr;
    class_name.remove_suffix(ending.size());
    if (class_name == kCuda) class_name = "Float";
    if (class_name.starts_with(kCuda)) class_name.remove_prefix(kCuda.size());
    const auto found = std::find_if(std::begin(kElements), std::end(kElements),
                                    [&](const ElementType& e) { return e.stem == class_name; });
    return found == std::end(kElements) ? nullptr : found;
}

// Of elements from the first to the last of a tensor; nothing where that overflows.
std::optional<int64_t> extent(const Object& tensor) {
    int64_t last = 0;
    for (size_t axis = 0; axis < tensor.sizes.size(); ++axis) {
        int64_t way;
        if (tensor.sizes[axis] == 0) return 0;
        if (__builtin_mul_overflow(tensor.sizes[axis] - 1, tensor.strides[axis], &way) ||
            __builtin_add_overflow(last, way, &last))
            return {};
    }
    int64_t end;
    if (__builtin_add_overflow(last, int64_t{1}, &end)) return {};
    return tensor.sizes.empty() ? 0 : end;
}

}  // namespace

class Torch7Reader {
  public:
    Torch7Reader(std::span<const uint8_t> bytes, int64_t long_bytes)
        : bytes_(bytes), long_bytes_(long_bytes) {}
    size_t position() const { return position_; }

    Torch7File run() {
        file_.bytes_ = std::ssize(bytes_);
        file_.root_ = value();
        while (!open_.empty()) {
            if (open_.back().remaining == 0) {
                open_.pop_back();
                continue;
            }
            --open_.back().remaining;
            const size_t owner = open_.back().object;
            const Torch7Value next = value();  // may open another
            Object& object = file_.objects_[owner];
            object.values.push_back(next);
            if (object.kind == Object::Kind::tensor) check_tensor(object);
        }
        if (position_ != bytes_.size()) fail("bytes follow the last object");
        return std::move(file_);
    }

  private:
    struct Open {
        size_t object;
        int64_t remaining;  // values of it still to come
    };

    [[noreturn]] void fail(const std::string& rule) const {
        throw ModelError("byte " + std::to_string(position_) + ": " + rule);
    }
    size_t left() const { return bytes_.size() - position_; }

    std::span<const uint8_t> take(int64_t count, const char* what) {
        if (count < 0) fail(std::string(what) + " has a negative size");
        if (uint64_t(count) > left())
            fail(std::string(what) + " reaches beyond the end: truncated");
        const auto taken = bytes_.subspan(position_, size_t(count));
        position_ += size_t(count);
        return taken;
    }
    template <class T>
    T number(const char* what) {
        T result;
        std::memcpy(&result, take(sizeof result, what).data(), sizeof result);
        return result;
    }
    int64_t long_number(const char* what) {
        return long_bytes_ == 8 ? number<int64_t>(what) : number<int32_t>(what);
    }
    std::string_view text() {
        const auto taken = take(number<int32_t>("a string"), "a string");
        return {reinterpret_cast<const char*>(taken.data()), taken.size()};
    }

    Torch7Value value() {
        if (++values_ > kMaxValues) fail("more than 100000 values");
        Torch7Value result;
        const auto tag = number<int32_t>("a value");
        switch (tag) {
            case kNil:
                return result;
            case kNumber:
                result.kind = Kind::number;
                result.number = number<double>("a number");
                return result;
            case kText:
                result.kind = Kind::text;
                result.text = text();
                return result;
            case kBoolean: {
                const auto flag = number<int32_t>("a boolean");
                if (flag != 0 && flag != 1) fail("a boolean is neither 0 nor 1");
                result.kind = Kind::boolean;
                result.number = flag;
                return result;
            }
            case kTable:
            case kTorch:
            case kLegacyFunction:
            case kFunction: {
                result.kind = Kind::object;
                const auto [at, fresh] =
                    known_.try_emplace(number<int32_t>("an index"), file_.objects_.size());
                result.object = at->second;
                if (fresh) open(tag);
                return result;
            }
            case kOldFunction:
                result.kind = Kind::object;
                result.object = file_.objects_.size();
                open(tag);
                return result;
            default:
                fail("a value of the unknown type " + std::to_string(tag));
        }
    }

    // What comes of a new object before its values. It is known from here on: it may contain
    // itself.
    void open(int32_t tag) {
        const size_t index = file_.objects_.size();
        Object& object = file_.objects_.emplace_back();
        int64_t count = 1;
        if (tag == kTable) {
            count = int64_t{2} * number<int32_t>("a table");
            if (count < 0) fail("a table has a negative size");
            if (uint64_t(count) > left() / sizeof(int32_t))
                fail("a table reaches beyond the end: truncated");
        } else if (tag == kTorch) {
            open_torch(object);
            if (object.kind == Object::Kind::storage) count = 0;
        } else {
            object.kind = Object::Kind::function;
            take(number<int32_t>("a function"), "a function");
        }
        open_.push_back({index, count});
    }

    void open_torch(Object& object) {
        object.kind = Object::Kind::torch;
        object.class_name = text();
        if (object.class_name.starts_with("V ")) {
            for (const char digit : object.class_name.substr(2, 4))
                if (digit >= '0' && digit <= '9')
                    object.version = 10 * object.version + digit - '0';
            object.class_name = text();
        }
        if (object.class_name.starts_with("tds."))
            fail("objects of " + std::string(object.class_name.substr(0, 20)) + " are not read");
        if (const ElementType* type = element_type(object.class_name, "Storage")) {
            object.kind = Object::Kind::storage;
            object.element = type->element;
            object.count = long_number("a storage");
            const int64_t size = type->bytes == 0 ? long_bytes_ : type->bytes;
            if (object.count < 0 || object.count > int64_t(left()) / size)
                fail("a storage reaches beyond the end: truncated");
            object.data = take(object.count * size, "a storage");
        } else if (const ElementType* tensor = element_type(object.class_name, "Tensor")) {
            object.kind = Object::Kind::tensor;
            object.element = tensor->element;
            const auto rank = number<int32_t>("a tensor");
            if (rank < 0 || rank > kMaxRank)
                fail("a tensor of rank " + std::to_string(rank) + ", it must be in 0..8");
            for (auto* list : {&object.sizes, &object.strides})
                for (int32_t axis = 0; axis < rank; ++axis) {
                    list->push_back(long_number("a tensor"));
                    if (list->back() < 0) fail("a tensor has a negative size or stride");
                }
            object.offset = long_number("a tensor");
            if (object.offset < 1) fail("a tensor begins before its storage");
            --object.offset;
        }
    }

    void check_tensor(const Object& tensor) const {
        const Torch7Value& storage = tensor.values[0];
        const auto end = extent(tensor);
        if (!end) fail("a tensor is too large");
        if (storage.kind == Kind::nil) {
            if (*end > 0) fail("a tensor without storage has elements");
            return;
        }
        if (storage.kind != Kind::object ||
            file_.objects_[storage.object].kind != Object::Kind::storage)
            fail("a tensor's storage is something else");
        const Object& owner = file_.objects_[storage.object];
        if (owner.element != tensor.element) fail("a tensor's storage has other numbers");
        if (*end > 0 && (tensor.offset > owner.count || *end > owner.count - tensor.offset))
            fail("a tensor reaches beyond its storage");
    }

    std::span<const uint8_t> bytes_;
    int64_t long_bytes_;
    size_t position_ = 0, values_ = 0;
    std::unordered_map<int32_t, size_t> known_;  // from the file's numbers to ours
    std::vector<Open> open_;                     // innermost last
    Torch7File file_;
};

Torch7File Torch7File::parse(std::span<const uint8_t> bytes) {
    // Nothing says how long a `long` is, but the first tensor makes no sense with the wrong length.
    Torch7Reader eight(bytes, 8), four(bytes, 4);
    try {
        return eight.run();
    } catch (const ModelError& error) {
        try {
            return four.run();
        } catch (const ModelError&) {
            if (four.position() > eight.position()) throw;  // that got further
        }
        throw error;
    }
}

bool Torch7File::begins(std::span<const uint8_t> bytes) {
    int32_t start[2];
    if (bytes.size() < sizeof start) return false;
    std::memcpy(start, bytes.data(), sizeof start);
    return (start[0] == kTable || start[0] == kTorch) && start[1] == 1;
}

const Torch7Object& Torch7File::object(const Torch7Value& value, const char* what) const {
    if (value.kind != Kind::object) throw ModelError(std::string(what) + " is no object");
    return objects_[value.object];
}

const std::vector<Torch7Value>& Torch7File::entries(const Torch7Object& object) const {
    const Torch7Object* table = &object;
    if (object.kind == Object::Kind::torch && object.values[0].kind == Kind::object)
        table = &objects_[object.values[0].object];
    if (table->kind != Object::Kind::table)
        throw ModelError(std::string(object.class_name.substr(0, 60)) + " holds no table");
    if (table->values.size() > 2 * kMaxEntries)
        throw ModelError("a table of more than 1000 entries where a layer or a list is expected");
    return table->values;
}

const Torch7Value* Torch7File::find(const Torch7Object& object, std::string_view key) const {
    const auto& list = entries(object);
    for (size_t i = 0; i < list.size(); i += 2)
        if (list[i].kind == Kind::text && list[i].text == key) return &list[i + 1];
    return nullptr;
}

const Torch7Value* Torch7File::find(const Torch7Object& object, int64_t index) const {
    const auto& list = entries(object);
    for (size_t i = 0; i < list.size(); i += 2)
        if (list[i].kind == Kind::number && list[i].number == double(index)) return &list[i + 1];
    return nullptr;
}

std::vector<Torch7Value> Torch7File::sequence(const Torch7Object& table) const {
    std::vector<Torch7Value> result;
    while (const Torch7Value* next = find(table, std::ssize(result) + 1)) result.push_back(*next);
    return result;
}

Tensor Torch7File::to_f32(const Torch7Object& tensor) const {
    const auto rank = tensor.sizes.size();
    if (tensor.kind != Object::Kind::tensor || rank < 1 || rank > 4 ||
        tensor.element == Object::Element::other)
        throw ModelError("not a tensor of 1 to 4 axes with floating-point numbers");
    // Axes of size 1 in front change nothing.
    int64_t sizes[4] = {1, 1, 1, 1}, strides[4] = {}, numel = 1;
    std::copy(tensor.sizes.begin(), tensor.sizes.end(), std::end(sizes) - rank);
    std::copy(tensor.strides.begin(), tensor.strides.end(), std::end(strides) - rank);
    for (const int64_t size : sizes)
        if (__builtin_mul_overflow(numel, size, &numel)) throw ModelError("a tensor is too large");
    const Torch7Value& storage = tensor.values[0];
    const int64_t count = storage.kind == Kind::nil ? 0 : objects_[storage.object].count;
    if (numel < 1 || numel > count) throw ModelError("a tensor is empty or repeats its numbers");
    const Shape all{sizes[0], sizes[1], sizes[2], sizes[3]};
    const Tensor out = Tensor::empty(rank == 4   ? all
                                     : rank == 3 ? Shape{sizes[1], sizes[2], sizes[3]}
                                     : rank == 2 ? Shape{sizes[2], sizes[3]}
                                                 : Shape{sizes[3]});
    const uint8_t* data = objects_[storage.object].data.data();
    const auto read = [&](auto zero, auto convert) {
        float* to = out.data<float>();
        for (int64_t a = 0; a < sizes[0]; ++a)
            for (int64_t b = 0; b < sizes[1]; ++b)
                for (int64_t c = 0; c < sizes[2]; ++c)
                    for (int64_t d = 0; d < sizes[3]; ++d) {
                        const int64_t at = tensor.offset + a * strides[0] + b * strides[1] +
                                           c * strides[2] + d * strides[3];
                        auto number = zero;
                        std::memcpy(&number, data + at * int64_t{sizeof number}, sizeof number);
                        *to++ = convert(number);
                    }
    };
    const auto narrow = [](auto x) { return static_cast<float>(x); };
    if (tensor.element == Object::Element::f32)
        read(float{}, narrow);
    else if (tensor.element == Object::Element::f64)
        read(double{}, narrow);
    else
        read(uint16_t{}, f16_to_float);
    return out;
}

}  // namespace lumachrome
