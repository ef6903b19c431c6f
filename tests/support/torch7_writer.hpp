// Files as Torch7 writes them, made from its description alone: the reader under test shares
// nothing with this. Tables are written in a shuffled order, as Lua's are.
#pragma once
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensor/random.hpp"

namespace lumachrome::torch7_writer {

struct Lua {
    enum Kind { nil, number, text, table, torch, boolean, tensor, storage, function } kind = nil;
    double value = 0;
    std::string name;  // text; class of a torch object, "" for none of it
    std::string version = "V 1";
    std::vector<std::pair<Lua*, Lua*>> entries;
    Lua* body = nullptr;  // of a torch object; storage of a tensor; upvalues of a function
    std::vector<int64_t> sizes, strides;
    int64_t offset = 1;           // from 1
    std::vector<double> numbers;  // of a storage
};

class Writer {
  public:
    struct Options {
        int long_bytes = 8;
        bool doubles = false;
    };
    explicit Writer(Options options) : options_(options) {}

    Lua* make(Lua::Kind kind) {
        all_.emplace_back().kind = kind;
        return &all_.back();
    }
    Lua* number(double value) {
        Lua* made = make(Lua::number);
        made->value = value;
        return made;
    }
    Lua* boolean(bool value) {
        Lua* made = make(Lua::boolean);
        made->value = value;
        return made;
    }
    Lua* text(const std::string& words) {
        Lua* made = make(Lua::text);
        made->name = words;
        return made;
    }
    Lua* table(std::vector<std::pair<std::string, Lua*>> fields = {}) {
        Lua* made = make(Lua::table);
        for (const auto& [key, value] : fields) made->entries.emplace_back(text(key), value);
        return made;
    }
    Lua* list(const std::vector<Lua*>& elements) {
        Lua* made = table();
        for (Lua* element : elements)
            made->entries.emplace_back(number(double(made->entries.size() + 1)), element);
        return made;
    }
    Lua* torch(const std::string& name, std::vector<std::pair<std::string, Lua*>> fields = {}) {
        Lua* made = make(Lua::torch);
        made->name = name;
        made->body = table(std::move(fields));
        return made;
    }
    Lua* storage() { return make(Lua::storage); }
    // A view of `of`, its numbers appended there.
    Lua* tensor(Lua* of, std::vector<int64_t> sizes, const std::vector<double>& numbers) {
        Lua* made = make(Lua::tensor);
        made->body = of;
        made->offset = std::ssize(of->numbers) + 1;
        made->strides.assign(sizes.size(), 1);
        for (size_t axis = sizes.size(); axis-- > 1;)
            made->strides[axis - 1] = made->strides[axis] * sizes[axis];
        made->sizes = std::move(sizes);
        of->numbers.insert(of->numbers.end(), numbers.begin(), numbers.end());
        return made;
    }
    Lua* empty_tensor() { return make(Lua::tensor); }

    std::vector<uint8_t> file(Lua* root) {
        bytes_.clear();
        indices_.clear();
        storages_.clear();
        write(root);
        return bytes_;
    }
    // Where the numbers of storages lie in the last file: begin and end.
    const std::vector<std::pair<size_t, size_t>>& storages() const { return storages_; }

  private:
    template <class T>
    void put(T value) {
        const auto* at = reinterpret_cast<const uint8_t*>(&value);
        bytes_.insert(bytes_.end(), at, at + sizeof value);
    }
    void put_long(int64_t value) {
        if (options_.long_bytes == 8)
            put(value);
        else
            put(static_cast<int32_t>(value));
    }
    void put_text(const std::string& words) {
        put(static_cast<int32_t>(words.size()));
        bytes_.insert(bytes_.end(), words.begin(), words.end());
    }
    // True if it was there already: then the number is all.
    bool put_index(const Lua* object) {
        const auto [at, fresh] =
            indices_.try_emplace(object, static_cast<int32_t>(indices_.size() + 1));
        put(at->second);
        return !fresh;
    }
    void put_class(const std::string& version, const std::string& name) {
        if (!version.empty()) put_text(version);
        put_text(name);
    }
    std::string prefix() const { return options_.doubles ? "torch.Double" : "torch.Float"; }

    void write(const Lua* it) {
        constexpr int32_t kTags[] = {0, 1, 2, 3, 4, 5, 4, 4, 8};
        put(kTags[it->kind]);
        switch (it->kind) {
            case Lua::nil:
                return;
            case Lua::number:
                return put(it->value);
            case Lua::text:
                return put_text(it->name);
            case Lua::boolean:
                return put(static_cast<int32_t>(it->value));
            case Lua::table: {
                if (put_index(it)) return;
                put(static_cast<int32_t>(it->entries.size()));
                auto entries = it->entries;
                for (size_t i = entries.size(); i > 1; --i)
                    std::swap(entries[i - 1], entries[random_.bits() % i]);
                for (const auto& [key, value] : entries) {
                    write(key);
                    write(value);
                }
                return;
            }
            case Lua::torch:
                if (put_index(it)) return;
                put_class(it->version, it->name);
                return write(it->body);
            case Lua::tensor: {
                if (put_index(it)) return;
                put_class(it->version, prefix() + "Tensor");
                put(static_cast<int32_t>(it->sizes.size()));
                for (const int64_t size : it->sizes) put_long(size);
                for (const int64_t stride : it->strides) put_long(stride);
                put_long(it->offset);
                if (it->body) return write(it->body);
                return put(int32_t{0});
            }
            case Lua::storage:
                if (put_index(it)) return;
                put_class(it->version, prefix() + "Storage");
                put_long(std::ssize(it->numbers));
                storages_.emplace_back(bytes_.size(), 0);
                for (const double one : it->numbers) {
                    if (options_.doubles)
                        put(one);
                    else
                        put(static_cast<float>(one));
                }
                storages_.back().second = bytes_.size();
                return;
            case Lua::function:
                if (put_index(it)) return;
                put_text("\x1bLJ bytecode");
                return write(it->body);
        }
    }

    Options options_;
    std::deque<Lua> all_;
    std::vector<uint8_t> bytes_;
    std::map<const Lua*, int32_t> indices_;
    std::vector<std::pair<size_t, size_t>> storages_;
    Random random_{17, Random::Purpose::test};
};

}  // namespace lumachrome::torch7_writer
