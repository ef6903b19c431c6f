// In a build without the HTTP library.
#include <doctest/doctest.h>

#include "tests/apps/process.hpp"

TEST_CASE("serve says what is missing") {
    const lumachrome::Finished done = lumachrome::run({"serve", "--port", "0"});
    CHECK(done.code == 69);
    CHECK(done.messages() == 1);
    CHECK(done.err.find("libmicrohttpd-dev") != std::string::npos);
}
