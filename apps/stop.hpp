// Ctrl-C and its kin, for commands that clean up or save before they end.
#pragma once
#include <atomic>

namespace lumachrome {

// From here on the first signal only sets the flag; the second ends the process.
void stop_on_signals();
const std::atomic<bool>& stop_requested();

}  // namespace lumachrome
