#include <filesystem>
#include <optional>

#include "apps/commands/commands.hpp"
#include "apps/exit_code.hpp"
#include "apps/serve/service.hpp"
#include "apps/stop.hpp"
#include "model/default_model.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

struct ServeOptions : RunOptions {
    int64_t port = 8080;
    std::string weights, baseline;
    std::string listen, token;
    int64_t max_pixels = 40'000'000;
    int64_t max_memory = 2048;  // MiB
};

constexpr size_t kShortestToken = 12;

// Who may be asked for, in the words of the Host header.
Policy policy_for(const ServeOptions& options, int port) {
    Policy policy;
    const std::string behind = ":" + std::to_string(port);
    for (const std::string host : {"localhost", "127.0.0.1", "[::1]"}) {
        policy.hosts.push_back(host + behind);
        if (port == 80) policy.hosts.push_back(host);
    }
    policy.token = options.token;
    if (options.listen.empty()) return policy;
    policy.any_address_port = port;
    return policy;
}

void check(const ServeOptions& options) {
    if (!options.listen.empty() && options.token.empty())
        throw UsageError("--listen " + options.listen +
                         ": opens the door to other machines, and needs --token WORD");
    if (!options.token.empty() && options.token.size() < kShortestToken)
        throw UsageError(format("--token: must have %zu characters at least", kShortestToken));
}

int run_serve(const ServeOptions& options, Console& console) {
    check(options);
    const Exec exec = exec_for(options, console);
    HttpServer server(options.listen, static_cast<int>(options.port));
    const std::string weights = options.weights.empty() ? default_model_path() : options.weights;
    Colorizer colorizer(weights, exec);
    std::optional<Colorizer> baseline;
    if (!options.baseline.empty()) baseline.emplace(options.baseline, exec);

    stop_on_signals();
    Service service({.name = "lumachrome",
                     .version = LUMACHROME_VERSION,
                     .max_pixels = options.max_pixels,
                     .max_memory = options.max_memory << 20,
                     .baseline = std::filesystem::path(options.baseline).stem().string()},
                    policy_for(options, server.port()), colorizer, baseline ? &*baseline : nullptr);
    const std::string address = "http://localhost:" + std::to_string(server.port()) + "/";
    console.print(address);
    Json json;
    json.set("address", address);
    json.set("port", server.port());
    json.set("weights", weights);
    json.set("device", exec.device.str());
    console.result(json);
    console.note("open that address in a browser; Ctrl-C ends it");
    if (!options.listen.empty())
        console.note("other machines: port " + std::to_string(server.port()) + " of " +
                     options.listen + ", with the token as password");
    server.run(service, stop_requested());
    console.note("stopped");
    return kOk;
}

}  // namespace

Command serve_command() {
    Command command({
        .name = "serve",
        .summary = "the same in a browser, on this machine",
        .description = "A web page and an HTTP API on this machine; photos stay in memory.",
        .examples = "  lumachrome serve                                    then open the address "
                    "it prints\n"
                    "  lumachrome serve --port 9000 --weights mine.safetensors\n"
                    "  lumachrome serve --listen 192.168.0.7 --token a-long-secret-of-yours",
    });
    ServeOptions& options = command.runs(run_serve);
    add_run_options(command, options);
    add_precision_option(command, options);
    add_weights_option(command, options.weights);
    command.add("--port", options.port, "Of the address; 0: any that is free").within(0, 65535);
    command
        .add("--baseline", options.baseline,
             "Second network for the page's user study, one without global features")
        .shown_as("FILE");
    command.section("Limits");
    command.add("--max-pixels", options.max_pixels, "Refuse larger photos by their header")
        .at_least(1);
    command
        .add("--max-memory", options.max_memory,
             "MiB that the process may take while the network works on a large photo")
        .within(256, 1 << 24);
    command.section("Other machines");
    command.add("--listen", options.listen, "Address to listen on besides this machine's own")
        .shown_as("ADDRESS");
    command.add("--token", options.token, "The word that every request then needs")
        .shown_as("WORD");
    return command;
}

}  // namespace lumachrome
