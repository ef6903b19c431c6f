// The page's files, compiled in (embed.cpp): nothing is read from disk at run time.
#pragma once
#include <span>
#include <string_view>

namespace lumachrome {

struct Asset {
    std::string_view path, type, bytes;  // "/page.css", "text/css; charset=utf-8"
};
std::span<const Asset> page_assets();

}  // namespace lumachrome
