#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <regex>
#include <sstream>

#include "image/codec.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/report/chart.hpp"
#include "train/report/film_strip.hpp"
#include "train/report/html.hpp"
#include "train/report/report.hpp"
#include "train/report/run_history.hpp"
#include "train/report/tensorboard.hpp"

using namespace lumachrome;
namespace fs = std::filesystem;

namespace {

struct Folder {
    fs::path path = fs::temp_directory_path() / "lumachrome_report_test";
    Folder() {
        fs::remove_all(path);
        fs::create_directories(path);
    }
    ~Folder() { fs::remove_all(path); }
    std::string run(const std::string& name) const {
        fs::create_directories(path / name / "samples");
        return (path / name).string();
    }
};

void write(const std::string& path, const std::string& text) {
    std::ofstream(path) << text;
}

std::string text_of(const std::string& path) {
    const std::vector<uint8_t> bytes = read_file(path);
    return {bytes.begin(), bytes.end()};
}

int64_t count(const std::string& text, const std::string& part) {
    int64_t found = 0;
    for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
    return found;
}

std::string training_line(int64_t step, double color_loss) {
    std::ostringstream line;
    line << R"({"step":)" << step << R"(,"epoch":1,"color_loss":)" << color_loss
         << R"(,"class_loss":null,"top1":null,"learning_rate":0.001,"gradient_norm":0.5,)"
         << R"("images_per_second":12.5,"seconds":)" << step << R"(,"unknown":[{}]})" << '\n';
    return line.str();
}

std::string validation_line(int64_t step, double rmse_ab) {
    std::ostringstream line;
    line << R"({"step":)" << step << R"(,"epoch":1,"seconds":)" << step
         << R"(,"validation":{"images":30,"color_loss":)" << rmse_ab / 1000
         << R"(,"class_loss":1.5,"top1":0.25,)"
         << R"("rmse_ab":)" << rmse_ab << R"(,"psnr_rgb":21.5,"delta_e2000_mean":null,)"
         << R"("colorfulness":20,"colorfulness_truth":50,"near_gray_fraction":0.5,)"
         << R"("gray_rmse_ab":16,"classes":[)"
         << R"x({"label":"<script>alert('x')</script>","images":4,"top1":null},)x"
         << R"({"label":"beach \"&\"","images":4,"top1":0.75}]},)"
         << R"("layers":[{"name":"low<1>","activation_mean":-0.5,"activation_std":1,)"
         << R"("activation_zero":0.5,"weight_rms":0.01,"gradient_rms":null},)"
         << R"({"name":"output","activation_mean":0.25,"activation_std":0,)"
         << R"("activation_zero":0,"weight_rms":0.1,"gradient_rms":1e-9}]})" << '\n';
    return line.str();
}

// Two rows of two squares on white; the second row has the colour `value`.
void write_sheet(const std::string& run, const std::string& name, uint8_t value) {
    Image sheet = Image::make(20, 22, 3, 8);
    std::fill(sheet.bytes.begin(), sheet.bytes.end(), uint8_t{255});
    for (int64_t y = 0; y < 22; ++y)
        for (int64_t x = 0; x < 20; ++x)
            for (int64_t c = 0; c < 3 && y != 10 && y != 11 && x != 10; ++c)
                sheet.row<uint8_t>(y)[x * 3 + c] = y < 10 ? 100 : value;
    write_image(run + "/samples/" + name, sheet, true);
}

std::string whole_run(const Folder& folder, const std::string& name) {
    const std::string run = folder.run(name);
    std::string log;
    for (int64_t step = 20; step <= 2000; step += 20) {
        log += training_line(step, 1.0 / double(step));
        if (step % 500 == 0) log += validation_line(step, step == 1500 ? 11.25 : 12.5);
    }
    write(run + "/metrics.jsonl", log + R"({"step":2020,"epo)");
    write(run + "/train.ini", "# comment\npreset=\"tiny\"\nout=\"<b>&\"\n");
    for (int step = 500; step <= 2000; step += 500)
        write_sheet(
            run, "step-0000" + std::string(step < 1000 ? "0" : "") + std::to_string(step) + ".png",
            static_cast<uint8_t>(step / 10));
    return run;
}

std::string page_of(const std::string& run) {
    write_report(run);
    return text_of(report_path(run));
}

// Each <td>, <div> and so on is closed: text that slipped out of its place shows here.
void check_balanced(const std::string& html) {
    for (const char* tag : {"div", "table", "tr", "td", "th", "figure", "svg", "span", "ol", "li",
                            "dl", "h2", "h3", "p", "small", "script", "style", "details"}) {
        CAPTURE(tag);
        const int64_t open =
            count(html, std::string("<") + tag + ">") + count(html, std::string("<") + tag + " ");
        CHECK(open == count(html, std::string("</") + tag + ">"));
    }
}

uint64_t little_endian(const std::vector<uint8_t>& bytes, size_t at, size_t length) {
    uint64_t value = 0;
    for (size_t i = 0; i < length; ++i) value |= uint64_t{bytes.at(at + i)} << (8 * i);
    return value;
}

uint32_t masked(std::span<const uint8_t> bytes) {
    const uint32_t crc = crc32c(bytes);
    return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

// The data of each record; the framing is checked on the way.
std::vector<std::vector<uint8_t>> records_of(const std::string& path) {
    const std::vector<uint8_t> bytes = read_file(path);
    std::vector<std::vector<uint8_t>> records;
    for (size_t at = 0; at < bytes.size();) {
        REQUIRE(at + 12 <= bytes.size());
        const uint64_t length = little_endian(bytes, at, 8);
        CHECK(little_endian(bytes, at + 8, 4) == masked({bytes.data() + at, 8}));
        REQUIRE(at + 16 + length <= bytes.size());
        const std::span<const uint8_t> data(bytes.data() + at + 12, length);
        CHECK(little_endian(bytes, at + 12 + length, 4) == masked(data));
        records.emplace_back(data.begin(), data.end());
        at += 16 + length;
    }
    return records;
}

std::string hex(std::vector<uint8_t> event) {
    // The time of day, field 1, comes first; the expected bytes say 1.5 s.
    REQUIRE(event.size() >= 9);
    CHECK(event[0] == 0x09);
    const uint8_t time[8] = {0, 0, 0, 0, 0, 0, 0xf8, 0x3f};
    std::copy(time, time + 8, event.begin() + 1);
    std::string text;
    for (const uint8_t byte : event) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return text;
}

}  // namespace

TEST_CASE("a report stands alone, escapes what it shows, and holds figures, curves and pictures") {
    const Folder folder;
    const std::string html = page_of(whole_run(folder, "a<i>run"));
    for (const char* reference : {"http://", "https://", "src=\"/", "href", "@import", "url("}) {
        CAPTURE(reference);
        CHECK_FALSE(html.find(reference) != std::string::npos);
    }
    for (const char* raw : {"<script>alert", "low<1>", "a<i>run", "\"&\"", "<b>&"}) {
        CAPTURE(raw);
        CHECK_FALSE(html.find(raw) != std::string::npos);
    }
    check_balanced(html);
    // One of our own, none from a label.
    CHECK(count(html, "<script") == 1);
    for (const char* shown :
         {"&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;", "<title>a&lt;i&gt;run", "<b>2,000</b>",
          "<b>12.50</b>", "<b>11.25</b>", "at step 1,500", "21.9&thinsp;% below gray (16.00)",
          "<b>40&thinsp;%</b>", "<b>25&thinsp;%</b>", "33 <em>min</em> 20 <em>s</em>",
          "75&thinsp;% of 4", "– of 4", "low&lt;1&gt;", "<dt>preset</dt><dd>tiny</dd>",
          "<dd>&lt;b&gt;&amp;</dd>"}) {
        CAPTURE(shown);
        CHECK(html.find(shown) != std::string::npos);
    }
    // All charts: scene loss and accuracy were only known at validations.
    CHECK(count(html, "<svg ") == 8);
    for (const char* title : {"Colour loss", "Colour error", "Colourfulness", "Scenes told right",
                              "Scene loss", "Gradient norm", "Learning rate", "Speed"})
        CHECK(html.find("<h3>" + std::string(title) + "</h3>") != std::string::npos);
    CHECK(count(html, "data-name=\"training\"") == 4);
    CHECK(count(html, "data-name=\"validation\"") == 5);
    CHECK(count(html, "data-name=\"gray photos\"") == 1);
    CHECK(html.find("nan") == std::string::npos);
    // The newest sheet, and a row of each of four.
    CHECK(count(html, "src=\"data:image/png;base64,iVBOR") == 5);
    CHECK(count(html, "height=22 ") == 1);
    CHECK(count(html, "height=10 ") == 4);
}

TEST_CASE("a report of little data is a page, one of none an error") {
    const Folder folder;
    const std::string run = folder.run("short");
    CHECK_THROWS_WITH_AS(write_report(run), doctest::Contains("holds no metrics.jsonl"),
                         InputError);
    CHECK_THROWS_AS(write_report(run + "/missing"), InputError);
    CHECK_FALSE(fs::exists(report_path(run)));
    for (const std::string& log : {std::string(), std::string("{\"st"), training_line(20, 0.5),
                                   std::string("{\"step\":1}\n"), validation_line(500, 9)}) {
        CAPTURE(log);
        write(run + "/metrics.jsonl", log);
        const std::string html = page_of(run);
        check_balanced(html);
        CHECK(html.find("data:image") == std::string::npos);
        CHECK((html.find("No validation yet") != std::string::npos) ==
              (log.find("validation") == std::string::npos));
    }
    write(run + "/metrics.jsonl", training_line(20, 0.5) + "half\n" + training_line(40, 0.5));
    CHECK_THROWS_WITH_AS(write_report(run), doctest::Contains("line 2"), InputError);
    write(run + "/metrics.jsonl", "{\"step\":\"1\"}\n");
    CHECK_THROWS_WITH_AS(write_report(run), doctest::Contains("line 1"), InputError);
}

TEST_CASE("runs side by side: a row and curves for each") {
    const Folder folder;
    const std::vector<std::string> runs = {whole_run(folder, "first"),
                                           whole_run(folder, "second<") + "/"};
    const std::string out = (folder.path / "both.html").string();
    write_report(runs, out);
    const std::string html = text_of(out);
    check_balanced(html);
    CHECK(html.find("<h1>first against second&lt;</h1>") != std::string::npos);
    CHECK(html.find("<i class=\"key c1\"></i>second&lt;</th><td>2,000</td>") != std::string::npos);
    CHECK(count(html, "data-name=\"second&lt;, training\"") == 1);
    CHECK(count(html, "data-name=\"second&lt;\"") == 7);
    CHECK_THROWS_AS(write_report(std::vector<std::string>{}, out), UsageError);
    CHECK_THROWS_AS(write_report(std::vector<std::string>(9, runs[0]), out), UsageError);
}

TEST_CASE("charts as files: XML of their own, whole, escaped, and never over others unasked") {
    const Folder folder;
    const std::vector<std::string> runs = {whole_run(folder, "first"), whole_run(folder, "a<b")};
    const std::string out = (folder.path / "figures").string();
    const std::vector<std::string> paths = write_figures(runs, out, false);
    REQUIRE(paths.size() == 8);
    CHECK(paths[1] == out + "/colour-error.svg");
    const std::regex bare("<[^>]* [a-z0-9-]+=[^\"]");
    for (const std::string& path : paths) {
        CAPTURE(path);
        const std::string svg = text_of(path);
        CHECK(svg.starts_with("<svg xmlns="));
        CHECK(count(svg, "<svg ") == 1);
        CHECK(svg.ends_with("</g></svg>\n"));
        CHECK(count(svg, ">a&lt;b") > 0);
        CHECK(svg.find("a<b") == std::string::npos);
        CHECK(svg.find("var(") == std::string::npos);
        CHECK_FALSE(std::regex_search(svg, bare));  // XML wants every value quoted
        for (const char* tag : {"text", "g", "style", "title", "desc"})
            CHECK(count(svg, std::string("<") + tag + " ") +
                      count(svg, std::string("<") + tag + ">") ==
                  count(svg, std::string("</") + tag + ">"));
    }
    CHECK_THROWS_AS(write_figures(runs, out, false), UsageError);
    CHECK(write_figures({runs[0]}, out, true).size() == 8);
    CHECK(text_of(paths[0]).find("a&lt;b") == std::string::npos);
}

TEST_CASE("the film strip spreads over the run and survives what lies in its folder") {
    const Folder folder;
    const std::string run = folder.run("film");
    CHECK(read_film_strip(run).sheets == 0);
    write_sheet(run, "step-00000010.png", 60);
    CHECK(read_film_strip(run).frames.empty());
    CHECK(read_film_strip(run).newest.width == 20);
    for (int64_t step = 20; step <= 1280; step += 10)
        write_sheet(run, "step-" + std::to_string(step) + ".png", static_cast<uint8_t>(step % 90));
    FilmStrip strip = read_film_strip(run);
    CHECK(strip.sheets == 128);
    REQUIRE(strip.frames.size() == 8);
    const int64_t expected[] = {10, 20, 40, 80, 160, 320, 640, 1280};
    for (size_t i = 0; i < 8; ++i) CHECK(std::abs(strip.frames[i].step - expected[i]) <= 10);
    CHECK(strip.newest.step == 1280);
    // The row that changes, not the first.
    const Image frame = decode(strip.frames[0].png, "frame");
    CHECK(frame.height == 10);
    CHECK(frame.row<uint8_t>(0)[0] == 60);
    CHECK(strip.unreadable == 0);

    write(run + "/samples/step-1280.png", "not a picture");
    write(run + "/samples/step-99999999999999999999.png", "");
    write(run + "/samples/step-.png", "");
    write(run + "/samples/notes.txt", "");
    strip = read_film_strip(run);
    CHECK(strip.sheets == 128);
    CHECK(strip.unreadable == 1);
    CHECK(strip.newest.step > 300);
    CHECK(strip.frames.size() == 7);
}

TEST_CASE("curves: decimation keeps the mean, ticks and scales fit the values") {
    std::vector<CurvePoint> points;
    for (int i = 0; i < 10000; ++i) points.push_back({double(i), i % 2 ? 3.0 : 1.0});
    points[5].value = std::numeric_limits<double>::quiet_NaN();
    const std::vector<CurvePoint> few = decimate(points, kMostCurvePoints);
    REQUIRE(few.size() == kMostCurvePoints);
    for (const CurvePoint& p : few) CHECK(p.value == doctest::Approx(2).epsilon(0.06));
    CHECK(few.back().step > 9990);
    CHECK(decimate({{0, 1}, {1, INFINITY}, {2, 3}}, 10).size() == 2);

    std::vector<CurvePoint> line;
    for (int i = 0; i < 400; ++i) line.push_back({double(i), 2.0 * i});
    const std::vector<CurvePoint> same = smooth(line);
    for (size_t i = 0; i < 380; ++i) CHECK(same[i].value == doctest::Approx(line[i].value));

    Chart chart{"T", "u", "c", Chart::Scale::automatic, {}, {}};
    CHECK(draw(chart).empty());
    chart.curves.push_back({"a", 0, Curve::Style::line, {{0, 1}, {10, 4}}});
    CHECK(draw(chart).find("data-log=0") != std::string::npos);
    chart.curves[0].points.push_back({20, 1000});
    const std::string svg = draw(chart);
    CHECK(svg.find("data-log=1") != std::string::npos);
    for (const char* tick : {">1<", ">10<", ">100<", ">1,000<"})
        CHECK(svg.find(tick) != std::string::npos);
    // One value, equal values, extreme values: finite places, few ticks.
    for (const double value : {0.0, 5.0, -1e100, 1e100, 1e-300}) {
        CAPTURE(value);
        chart.curves[0].points = {{7, value}};
        const std::string single = draw(chart);
        CHECK(single.find("<circle") != std::string::npos);
        CHECK(single.find("nan") == std::string::npos);
        CHECK(single.find("inf") == std::string::npos);
        CHECK(count(single, "class=\"grid\"") < 15);
    }
    chart.curves[0].points = {{0, -1e100}, {1, 1e-320}, {2, 1e100}, {3, 1e300}};
    CHECK(draw(chart).find("nan") == std::string::npos);
    chart.curves[0].points = {{0, 1e-320}, {1, 1e100}};
    CHECK(count(draw(chart), "class=\"grid\"") < 15);
    chart.curves[0].points = {{0, 1e300}};
    CHECK(draw(chart).empty());
}

TEST_CASE("numbers for people") {
    CHECK(format_count(1234567) == "1,234,567");
    CHECK(format_count(-123) == "-123");
    CHECK(format_figure(0.012345) == "0.0123");
    CHECK(format_figure(0.00022) == "2.2e-4");
    CHECK(format_figure(1e-5) == "1e-5");
    CHECK(format_figure(12345) == "12,345");
    CHECK(format_figure(RunHistory::kNone) == "–");
    CHECK(format_fixed(1e300, 2) == "1e+300");
    CHECK(format_percent(0.7553) == "75.5&thinsp;%");
    CHECK(format_duration(3 * 3600 + 61) == "3 <em>h</em> 1 <em>min</em>");
    CHECK(format_duration(RunHistory::kNone) == "–");
    CHECK(escape_html("äöü", 3) == "ä");
    CHECK(base64({}) == "");
    CHECK(base64({'f'}) == "Zg==");
    CHECK(base64({'f', 'o'}) == "Zm8=");
    CHECK(base64({'f', 'o', 'o', 255}) == "Zm9v/w==");
}

TEST_CASE("event files hold the bytes that TensorBoard 2.21 writes") {
    const std::string digits = "123456789";
    CHECK(crc32c({reinterpret_cast<const uint8_t*>(digits.data()), digits.size()}) == 0xE3069283u);
    const Folder folder;
    const std::string run = folder.run("events");
    const double none = RunHistory::kNone;
    TensorBoardWriter writer(run);
    writer.scalars(1, {{"nothing", none}});
    CHECK(writer.path().empty());
    writer.scalars(300, {{"loss", 0.25}, {"unknown", none}, {"top1", 0}});
    const uint8_t png[] = {'P', 'N', 'G'};
    writer.image(7, "s", png, 300, 2);
    CHECK(fs::path(writer.path()).filename().string().starts_with("events.out.tfevents."));
    auto records = records_of(writer.path());
    REQUIRE(records.size() == 3);
    CHECK(hex(records[0]) == "09000000000000f83f1a0d627261696e2e4576656e743a32");
    CHECK(hex(records[1]) ==
          "09000000000000f83f10ac022a1a0a0b0a046c6f7373150000803e0a0b0a04746f70311500000000");
    CHECK(hex(records[2]) == "09000000000000f83f10072a130a110a0173220c080210ac0218032203504e47");

    // A resumed run, within the same second: another file, and later points are forgotten.
    TensorBoardWriter resumed(run, 300);
    resumed.scalars(320, {{"loss", 1}});
    CHECK(resumed.path() > writer.path());
    records = records_of(resumed.path());
    REQUIRE(records.size() == 3);
    CHECK(hex(records[1]) == "09000000000000f83f10ad023a020801");
}

TEST_CASE("a full disk is an error that names the file, and leaves whole records") {
    const Folder folder;
    TensorBoardWriter nowhere((folder.path / "missing").string());
    CHECK_THROWS_WITH_AS(nowhere.scalars(1, {{"a", 1}}), doctest::Contains("events.out.tfevents"),
                         ResourceError);
    TensorBoardWriter writer(folder.run("full"));
    writer.scalars(1, {{"a", 1}});
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    rlimit small = before;
    small.rlim_cur = fs::file_size(writer.path()) + 100;
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    const std::vector<uint8_t> large(1000);
    std::string message;
    try {
        writer.image(2, "large", large, 1, 1);
    } catch (const ResourceError& e) {
        message = e.what();
    }
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
    CHECK(message.starts_with(writer.path() + ": cannot write: "));
    CHECK(records_of(writer.path()).size() == 2);
    writer.scalars(3, {{"a", 1}});
    CHECK(records_of(writer.path()).size() == 3);
}
