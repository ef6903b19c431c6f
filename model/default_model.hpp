// Where the weights come from when nobody names any.
#pragma once
#include <string>

namespace lumachrome {

// The file named by LUMACHROME_WEIGHTS, else weights/ of the source tree or share/lumachrome/ of
// the installation that the running binary belongs to. Throws ModelError saying where it looked.
std::string default_model_path();

}  // namespace lumachrome
