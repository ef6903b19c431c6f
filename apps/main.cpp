#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "apps/cli.hpp"
#include "apps/exit_code.hpp"
#include "tensor/choose.hpp"
#include "tensor/error.hpp"

int main(int argc, char** argv) {
    using namespace lumachrome;
    Console console;
    std::signal(SIGXFSZ,
                SIG_IGN);  // a limit on file sizes is an error of write(), like a full disk
    const char* explain = std::getenv("LUMACHROME_EXPLAIN");
    if (explain && std::string_view(explain) != "0" && *explain)
        explain_sink() = [](const std::string& line) {
            std::fprintf(stderr, "%s\n", line.c_str());
        };
    try {
        const Request request = parse({argv + 1, argv + argc});
        console.options = request.console;
        const int code = request.run(console);
        if (std::fflush(stdout) != 0 || std::ferror(stdout))
            throw ResourceError("standard output: cannot write");
        return code;
    } catch (const std::exception& error) {
        console.error(message(error));
        return exit_code(error);
    }
}
