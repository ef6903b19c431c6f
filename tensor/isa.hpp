// Instruction sets. The innermost loops (tensor/isa, layers/isa) are compiled once for each, in a
// namespace of its own, and the best that this machine has is chosen when the program runs:
//   LUMACHROME_ISA=avx2    takes a lesser one
//
// A file of those folders holds single-threaded loops over plain pointers and includes nothing but
// tensor/isa/vector.hpp and headers of plain structs and arithmetic: an inline function of the
// standard library compiled for AVX-512 could be the copy that the linker keeps for everybody.
#pragma once
#include <span>
#include <string_view>

namespace lumachrome {

enum class Isa { generic, avx2, avx512 };
std::string_view name(Isa isa);
std::span<const Isa> supported_isas();  // of this machine and this build, best last
// The chosen one. Throws UsageError if LUMACHROME_ISA names one that this machine lacks.
Isa isa();

// Another one for a scope; for tests.
class ForcedIsa {
  public:
    explicit ForcedIsa(Isa isa);
    ~ForcedIsa();
    ForcedIsa(const ForcedIsa&) = delete;
    ForcedIsa& operator=(const ForcedIsa&) = delete;

  private:
    Isa kept_;
};

}  // namespace lumachrome

// Declares `name`, which every instruction set defines, and `name_for(isa)`, which finds it.
#if defined(__x86_64__)
#define LUMACHROME_PER_ISA(Type, name)                           \
    namespace generic {                                          \
    extern const Type name;                                      \
    }                                                            \
    namespace avx2 {                                             \
    extern const Type name;                                      \
    }                                                            \
    namespace avx512 {                                           \
    extern const Type name;                                      \
    }                                                            \
    inline const Type& name##_for(::lumachrome::Isa isa) {       \
        return isa == ::lumachrome::Isa::avx512 ? avx512::name   \
               : isa == ::lumachrome::Isa::avx2 ? avx2::name     \
                                                : generic::name; \
    }
#else
#define LUMACHROME_PER_ISA(Type, name)                 \
    namespace generic {                                \
    extern const Type name;                            \
    }                                                  \
    inline const Type& name##_for(::lumachrome::Isa) { \
        return generic::name;                          \
    }
#endif
