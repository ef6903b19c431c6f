// What scenes.cpp paints with, and nothing else includes: a square canvas, noise, and motifs from
// sky to house front, painted back to front. Positions are shares of the side: u from the left, v
// from the top. Colours are gamma-encoded 0..1. Random draws stand one to a statement, a declarator
// or a place in braces: arguments of a call have no order of evaluation, and photos must not depend
// on a compiler.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "image/image.hpp"
#include "tensor/random.hpp"

namespace lumachrome::painting {

struct Colour {
    float r = 0, g = 0, b = 0;
};
inline Colour operator+(Colour a, Colour b) {
    return {a.r + b.r, a.g + b.g, a.b + b.b};
}
inline Colour operator*(Colour a, float s) {
    return {a.r * s, a.g * s, a.b * s};
}
inline Colour mix(Colour a, Colour b, float t) {
    return a * (1 - t) + b * t;
}
inline float mix(float a, float b, float t) {
    return a + (b - a) * t;
}
inline float unit(float x) {
    return std::clamp(x, 0.0f, 1.0f);
}
inline float step(float low, float high, float x) {  // smooth from 0 at low to 1 at high
    const float t = unit((x - low) / (high - low));
    return t * t * (3 - 2 * t);
}
inline int to_int(float x) {
    return static_cast<int>(x);
}
inline float to_float(int64_t x) {
    return static_cast<float>(x);
}

// Fractal value noise, about 0..1 around 0.5. Octaves finer than the footprint of a pixel fade out
// (frequency clamping, Norton et al. 1982), or far ground would glitter.
struct Noise {
    uint32_t key;

    float lattice(int x, int y) const {
        uint32_t h = uint32_t(x) * 0x8da6b343u ^ uint32_t(y) * 0xd8163841u ^ key;
        h = (h ^ h >> 15) * 0x2c1b3c6du;
        h = (h ^ h >> 12) * 0x297a2d39u;
        return to_float((h ^ h >> 15) >> 8) * 0x1p-24f;
    }
    float smooth(float x, float y) const {
        const float fx = std::floor(x), fy = std::floor(y);
        const int ix = to_int(fx), iy = to_int(fy);
        const float tx = step(0, 1, x - fx), ty = step(0, 1, y - fy);
        return mix(mix(lattice(ix, iy), lattice(ix + 1, iy), tx),
                   mix(lattice(ix, iy + 1), lattice(ix + 1, iy + 1), tx), ty);
    }
    float operator()(float x, float y, int octaves, float footprint = 0) const {
        float sum = 0, total = 0, amplitude = 1;
        for (int i = 0; i < octaves && footprint < 1; ++i) {
            sum += amplitude * (1 - footprint) * (smooth(x, y) - 0.5f);
            total += amplitude;
            amplitude *= 0.55f, footprint *= 2;
            // Turned by 37 degrees, so that the lattices of the octaves do not line up.
            const float turned = 1.6f * x - 1.2f * y + 17.3f;
            y = 1.2f * x + 1.6f * y - 5.1f, x = turned;
        }
        return total > 0 ? 0.5f + 1.4f * sum / total : 0.5f;
    }
};

class Canvas {
  public:
    Canvas(int64_t size, uint64_t seed, uint32_t scene, uint32_t index)
        : size_(static_cast<int>(size)),
          side_(to_float(size)),
          random_(seed, Random::Purpose::scenes, scene, index),
          pixels_(static_cast<size_t>(size * size)) {}

    float pick(float low, float high) {
        return static_cast<float>(random_.uniform(double{low}, double{high}));
    }
    bool chance(double probability) { return random_.uniform() < probability; }
    template <size_t n>
    Colour pick(const std::array<Colour, n>& palette) {
        return vary(palette[static_cast<size_t>(random_.below(n))], 0.05f);
    }
    Colour vary(Colour colour, float amount) {
        const float light = pick(-amount, amount);
        return {colour.r + light + pick(-amount, amount) / 2, colour.g + light,
                colour.b + light + pick(-amount, amount) / 2};
    }
    Noise noise() { return {random_.bits()}; }
    float pixel() const { return 1 / side_; }

    // Calls shade(u, v, colour) -> opacity for each pixel of a rectangle and blends.
    template <class Shade>
    void paint(float u0, float v0, float u1, float v1, const Shade& shade) {
        const int x0 = bound(u0), x1 = bound(u1 + pixel()), y0 = bound(v0),
                  y1 = bound(v1 + pixel());
        for (int y = y0; y < y1; ++y)
            for (int x = x0; x < x1; ++x) {
                Colour& under = at(x, y);
                Colour colour = under;
                const float alpha =
                    unit(shade((to_float(x) + 0.5f) / side_, (to_float(y) + 0.5f) / side_, colour));
                under = mix(under, colour, alpha);
            }
    }
    // 1 inside, 0 outside, about a pixel wide between; distance is positive inside.
    float edge(float distance) const { return unit(distance * side_ + 0.5f); }

    Colour look(float u, float v) {
        return at(std::clamp(to_int(u * side_), 0, size_ - 1),
                  std::clamp(to_int(v * side_), 0, size_ - 1));
    }
    Image photo();

  private:
    int bound(float share) const { return std::clamp(to_int(std::floor(share * side_)), 0, size_); }
    Colour& at(int x, int y) { return pixels_[static_cast<size_t>(y * size_ + x)]; }

    int size_;
    float side_;
    Random random_;
    std::vector<Colour> pixels_;
};

// Exposure, a little white balance, vignette and sensor grain, as every camera adds them.
inline Image Canvas::photo() {
    const float exposure = pick(0.9f, 1.06f);
    const Colour balance{exposure * pick(0.97f, 1.03f), exposure, exposure * pick(0.97f, 1.03f)};
    const float vignette = pick(0, 0.35f), grain = pick(0.005f, 0.03f);
    Image image = Image::make(size_, size_, 3, 8);
    const Noise speck = noise();
    for (int y = 0; y < size_; ++y) {
        uint8_t* out = image.row<uint8_t>(y);
        for (int x = 0; x < size_; ++x, out += 3) {
            const float u = to_float(x) / side_ - 0.5f, v = to_float(y) / side_ - 0.5f;
            const float light = 1 - vignette * (u * u + v * v);
            // Two uniform draws: a triangle is near enough to a bell.
            const float noise = grain * (speck.lattice(x, y) + speck.lattice(x, ~y) - 1);
            const Colour c = at(x, y);
            const float values[] = {c.r * balance.r, c.g * balance.g, c.b * balance.b};
            for (int i = 0; i < 3; ++i)
                out[i] = static_cast<uint8_t>(unit(values[i] * light + noise) * 255 + 0.5f);
        }
    }
    return image;
}

// --- sky and light -----------------------------------------------------------------------------

struct Sky {
    Colour zenith, horizon, lit, dark;  // lit and dark sides of clouds
    float cover;                        // 0 clear .. 1 closed
};

inline Sky day_sky(Canvas& c) {
    const float depth = c.pick(0, 1);
    return {c.vary(mix({.42f, .62f, .86f}, {.16f, .36f, .72f}, depth), .04f),
            c.vary(mix({.80f, .88f, .94f}, {.62f, .79f, .93f}, depth), .03f),
            {.98f, .97f, .96f},
            {.66f, .69f, .75f},
            c.chance(.25) ? 0 : c.pick(.2f, .65f)};
}

inline void paint_sky(Canvas& c, const Sky& sky, float horizon) {
    const Noise clouds = c.noise();
    const float side = c.chance(.5) ? .25f : -.25f, zoom = c.pick(.5f, 1.1f);
    c.paint(0, 0, 1, horizon + .12f, [&](float u, float v, Colour& out) {
        out = mix(sky.zenith, sky.horizon, std::pow(unit(v / horizon), 1.4f));
        if (sky.cover <= 0) return 1.0f;
        const float far = zoom / (std::max(0.0f, horizon - v) + .18f);
        const float x = (u - .5f) * far * 1.3f, y = far * 2.2f;
        const float density = clouds(x, y, 5, far * far * c.pixel());
        const float alpha = step(1 - sky.cover, 1.25f - sky.cover * .9f, density + .12f);
        if (alpha <= 0) return 1.0f;
        const float light = clouds(x + side, y + .22f, 3) - density;  // what stands before the sun
        out = mix(out, mix(sky.lit, sky.dark, unit(.45f - light * 1.6f)),
                  alpha * mix(.95f, .5f, unit(v / horizon)));
        return 1.0f;
    });
}

inline void glow(Canvas& c, float u0, float v0, float radius, Colour light, float strength) {
    const float reach = radius * 2.5f;
    c.paint(u0 - reach, v0 - reach, u0 + reach, v0 + reach, [&](float u, float v, Colour& out) {
        const float d2 = ((u - u0) * (u - u0) + (v - v0) * (v - v0)) / (radius * radius);
        out = out + light * (strength * std::exp(-d2));
        return 1.0f;
    });
}

inline void disc(Canvas& c, float u0, float v0, float radius, Colour colour) {
    c.paint(u0 - radius, v0 - radius, u0 + radius, v0 + radius, [&](float u, float v, Colour& out) {
        out = colour;
        return c.edge(radius - std::hypot(u - u0, v - v0));
    });
}

inline void box(Canvas& c, float u0, float v0, float u1, float v1, Colour colour,
                float grain = .06f) {
    const Noise rough = c.noise();
    c.paint(u0, v0, u1, v1, [&](float u, float v, Colour& out) {
        out = colour * (1 + grain * (rough(u * 50, v * 50, 2) - .5f) * 2);
        return c.edge(std::min(std::min(u - u0, u1 - u), std::min(v - v0, v1 - v)));
    });
}

// --- land and water ----------------------------------------------------------------------------

// Everything below a skyline v = base -+ height. shade(u, v, depth below the skyline).
template <class Shade>
void land(Canvas& c, float base, float height, float frequency, bool sharp, const Shade& shade,
          float bottom = 1) {
    const Noise line = c.noise();
    const int octaves = sharp ? 5 : 2;
    std::vector<float> top;
    for (float u = c.pixel() / 2; u < 1 + c.pixel(); u += c.pixel())
        top.push_back(base - height * 2 * (line(u * frequency, .5f, octaves) - .5f));
    c.paint(0, base - height * 1.5f, 1, bottom, [&](float u, float v, Colour& out) {
        const float depth = v - top[static_cast<size_t>(u / c.pixel())];
        if (depth < -c.pixel()) return 0.0f;
        out = shade(u, v, depth);
        return c.edge(depth);
    });
}

inline void mountains(Canvas& c, float base, float height, Colour rock, Colour haze,
                      float snow_line) {
    const Noise rough = c.noise();
    const float side = c.chance(.5) ? 1.0f : -1.0f, frequency = c.pick(2, 4);
    const auto face_at = [&](float u, float v, float depth) {
        const float x = u * 9, y = v * 9;
        const float light = rough(x + side * .12f, y - .1f, 4) - rough(x, y, 4);
        const float snow =
            step(.02f, -.03f, depth + (rough(x * 2, y * 2, 3) - .5f) * .1f - snow_line);
        const Colour face = mix(rock, {.95f, .96f, .98f}, snow_line > 0 ? snow : 0);
        return mix(face * (.85f + 2.2f * light), haze, unit(.25f + .9f * depth / (height * 3)));
    };
    land(c, base, height, frequency, true, face_at, base + height + .15f);  // the rest is hidden
}

inline void hills(Canvas& c, float base, float height, Colour colour, Colour haze, float far) {
    const Noise rough = c.noise();
    land(c, base, height, c.pick(1.5f, 3.5f), false, [&](float u, float v, float depth) {
        const float leaf = rough(u * 40, v * 60, 3);
        return mix(colour * (.65f + .6f * leaf + .8f * depth), haze, far);
    });
}

// Ground in perspective from v = horizon down: shade(u, x, z, footprint) with x across and z away,
// both in heights of the eye; footprint is the depth of a pixel there.
template <class Shade>
void ground(Canvas& c, float horizon, const Shade& shade) {
    c.paint(0, horizon, 1, 1, [&](float u, float v, Colour& out) {
        const float z = 1 / (v - horizon + .03f);
        out = shade(u, (u - .5f) * z, z, z * z * c.pixel());
        return c.edge(v - horizon);
    });
}

// Wind-blown ridges of sand or snow, the same shapes for both: only the palette differs.
inline void dunes(Canvas& c, float horizon, Colour lit, Colour shadow, Colour haze) {
    const int ridges = 4;
    const float side = c.chance(.5) ? 1.0f : -1.0f;
    for (int i = 0; i < ridges; ++i) {
        const float near = to_float(i + 1) / ridges, phase = c.pick(0, 6);
        const Noise form = c.noise(), ripple = c.noise();
        const float base = mix(horizon, .86f, to_float(i) / ridges),
                    wave = c.pick(2, 4) / (.4f + near);
        land(c, base, .05f + .09f * near, 1.6f / near, false, [&](float u, float v, float depth) {
            // A crest winds down from the skyline and parts the lit from the shaded flank.
            const float across =
                side * u * wave * .5f + phase + depth * 2.4f + .9f * (form(u * 3, v * 3, 2) - .5f);
            const float behind = across - std::floor(across);  // 0 at a crest, 1 at the next
            const float light = step(1, .93f, behind) * (1 - .8f * behind) + .25f * behind;
            const float fine = ripple(u * 14, v * 60 / near, 3, .4f * (1 - near));
            const Colour face = mix(shadow, lit, unit(.12f + light + .25f * (fine - .5f)));
            return mix(haze, face, .45f + .55f * near);
        });
    }
}

inline void grass(Canvas& c, float horizon, Colour light, Colour dark, Colour haze) {
    const Noise patches = c.noise(), blades = c.noise();
    ground(c, horizon, [&](float u, float x, float z, float footprint) {
        const float patch = patches(x * .9f, z * .9f, 3, footprint * .5f);
        const float blade = blades(u * 90 / (1 + z * .15f), 34 / z * 6, 3, std::min(.9f, z * .04f));
        const Colour face =
            mix(dark, light, unit(.5f + 1.1f * (patch - .5f) + 1.3f * (blade - .5f)));
        return mix(face, haze, unit(z / 60));
    });
}

// Petals or fallen leaves, smaller and denser with distance.
template <size_t n>
void sprinkle(Canvas& c, float horizon, int count, const std::array<Colour, n>& palette) {
    const Noise beds = c.noise();
    for (int i = 0; i < count; ++i) {
        const float t = c.pick(.02f, 1), v = mix(horizon, 1, t * t), u = c.pick(0, 1);
        const Colour petal = c.pick(palette);
        if (beds(u * 4 / (t + .2f), v * 14, 2) < .45f) continue;
        disc(c, u, v, mix(.003f, .013f, t), petal);
    }
}

inline void sea(Canvas& c, float horizon, Colour deep, Colour shallow, Colour sky, float foam) {
    const Noise swell = c.noise(), chop = c.noise();
    ground(c, horizon, [&](float, float x, float z, float footprint) {
        const float wave = swell(x * .8f, z * 2.6f, 4, footprint * .5f);
        const float glint = chop(x * 5, z * 12, 3, footprint * 2.5f);
        Colour water = mix(shallow, deep, unit(.15f + z * .05f + 1.3f * (wave - .5f)));
        water = mix(water, sky, unit(.12f + z * .012f + .9f * (glint - .5f)));
        return mix(water, {.95f, .97f, .97f}, foam * step(.72f, .82f, wave + .5f * (glint - .5f)));
    });
}

// Still water: what is above the shore upside down, broken by ripples.
inline void mirror(Canvas& c, float shore, Colour water, float share) {
    const Noise ripple = c.noise();
    c.paint(0, shore, 1, 1, [&](float u, float v, Colour& out) {
        const float near = v - shore;
        const float shift = (ripple(u * 6, 4 / (near + .06f), 3) - .5f) * (.02f + .12f * near);
        out = mix(water, c.look(u + shift, shore - near * .9f + shift * .5f), share);
        out = out * (.94f + .12f * ripple(u * 5, 9 / (near + .05f), 2));
        return 1.0f;
    });
}

// --- plants and buildings ----------------------------------------------------------------------

inline void conifer(Canvas& c, float u0, float base, float height, Colour needle, float snow) {
    const Noise rough = c.noise();
    const float half = height * c.pick(.18f, .26f);
    box(c, u0 - height * .02f, base - height * .15f, u0 + height * .02f, base, {.24f, .17f, .12f});
    c.paint(u0 - half, base - height, u0 + half, base, [&](float u, float v, Colour& out) {
        const float down = (v - base + height) / (height * .93f);  // 0 at the tip
        const float tiers = .75f + .25f * (down * 7 - std::floor(down * 7));
        const float leaf = rough((u - u0) / height * 26, v / height * 30, 2);
        const float width = half * down * tiers * (.7f + .6f * leaf);
        const float left = (u0 - u) / half;
        out = needle * (.55f + .7f * leaf + .3f * left);
        const float bough = snow * step(.10f, .02f, tiers - .75f - .14f * (leaf - .5f));
        out = mix(out, Colour{.90f, .93f, .97f} * (.85f + .15f * left), bough);
        return down > 1 ? 0 : c.edge(width - std::abs(u - u0));
    });
}

inline void broadleaf(Canvas& c, float u0, float base, float height, Colour leaf_colour) {
    const Noise rough = c.noise();
    const float crown = height * c.pick(.28f, .36f), v0 = base - height + crown;
    box(c, u0 - height * .03f, v0, u0 + height * .03f, base, {.27f, .20f, .15f});
    const float reach = crown * 1.35f;
    c.paint(u0 - reach, v0 - reach, u0 + reach, v0 + reach, [&](float u, float v, Colour& out) {
        const float x = (u - u0) / crown, y = (v - v0) / crown;
        const float clump = rough(x * 2.2f + 9, y * 2.2f, 2), leaf = rough(x * 7, y * 7, 3);
        const float light = .62f - .28f * x * .6f - .34f * y + .75f * (clump - .5f);
        out = leaf_colour * (light * (.45f + leaf * 1.1f) + .12f);
        return c.edge((.72f + .55f * (clump - .3f) + .5f * (leaf - .5f) - std::hypot(x, y)) *
                      crown);
    });
}

struct Facade {
    Colour wall, glass;
    float lit;  // share of windows with a light on
};

inline void building(Canvas& c, float u0, float u1, float top, float base, const Facade& facade) {
    const Noise chosen = c.noise(), stain = c.noise();
    const float cell = c.pick(.028f, .045f), wide = c.pick(.5f, .75f), tall = c.pick(.45f, .7f);
    const float shade = c.pick(.85f, 1.1f);
    c.paint(u0, top, u1, base, [&](float u, float v, Colour& out) {
        const float x = (u - u0) / cell, y = (v - top) / (cell * 1.25f);
        const int ix = to_int(x), iy = to_int(y);
        const float fx = std::abs(x - to_float(ix) - .5f) * 2,
                    fy = std::abs(y - to_float(iy) - .5f) * 2;
        out = facade.wall * (shade * (.93f + .14f * stain(u * 12, v * 12, 3)));
        if (u > mix(u0, u1, .72f)) out = out * .8f;  // the side away from the light
        const float window = c.edge((wide - fx) * cell / 2) * c.edge((tall - fy) * cell / 2);
        const float which = chosen.lattice(ix, iy);
        const Colour warm = mix({1, .80f, .42f}, {.98f, .92f, .75f}, chosen.lattice(ix + 99, iy));
        const Colour pane = which < facade.lit ? warm * (.65f + .5f * which / (facade.lit + .01f))
                                               : facade.glass * (.75f + .5f * which);
        out = mix(out, pane, window * step(.004f, .012f, v - top - .01f));
        return c.edge(std::min({u - u0, u1 - u, v - top}));
    });
}

// Trees of one wood, back to front between two lines.
template <size_t n>
void wood(Canvas& c, float back, float front, int count, float height, double conifers,
          const std::array<Colour, n>& palette, Colour haze, float snow = 0) {
    for (int i = 0; i < count; ++i) {
        const float t = (to_float(i) + .5f) / to_float(count), base = mix(back, front, t * t);
        const float tall = height * mix(.35f, 1, t) * c.pick(.75f, 1.25f), u = c.pick(-.05f, 1.05f);
        const Colour leaf = mix(haze, c.pick(palette), .55f + .45f * t);
        if (c.chance(conifers))
            conifer(c, u, base, tall, leaf, snow);
        else
            broadleaf(c, u, base, tall, leaf);
    }
}

}  // namespace lumachrome::painting
