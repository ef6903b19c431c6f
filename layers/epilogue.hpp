// What ends a layer prepared for inference; a plain enum, for code of every instruction set.
#pragma once

namespace lumachrome {

enum class Epilogue { none, relu, sigmoid };

}  // namespace lumachrome
