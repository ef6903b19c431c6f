#include "train/scenes.hpp"

#include "tensor/error.hpp"
#include "train/scene_painting.hpp"

namespace lumachrome {
namespace {

using namespace painting;

constexpr std::array kGreens{Colour{.30f, .46f, .16f}, Colour{.22f, .40f, .17f},
                             Colour{.42f, .54f, .20f}, Colour{.17f, .33f, .19f}};
constexpr std::array kConifers{Colour{.13f, .27f, .17f}, Colour{.16f, .32f, .20f},
                               Colour{.20f, .34f, .17f}};
constexpr std::array kAutumn{Colour{.86f, .47f, .12f}, Colour{.88f, .66f, .18f},
                             Colour{.72f, .26f, .12f}, Colour{.62f, .40f, .16f},
                             Colour{.80f, .56f, .14f}};
constexpr std::array kPetals{Colour{.96f, .82f, .16f}, Colour{.95f, .94f, .92f},
                             Colour{.86f, .32f, .52f}, Colour{.56f, .38f, .78f},
                             Colour{.85f, .18f, .14f}};
constexpr std::array kWalls{Colour{.62f, .30f, .22f}, Colour{.78f, .70f, .58f},
                            Colour{.70f, .56f, .42f}, Colour{.52f, .58f, .66f},
                            Colour{.82f, .78f, .70f}, Colour{.55f, .36f, .28f}};
constexpr std::array kCloths{Colour{.68f, .16f, .16f}, Colour{.16f, .30f, .56f},
                             Colour{.85f, .62f, .16f}, Colour{.20f, .48f, .40f},
                             Colour{.58f, .30f, .50f}, Colour{.88f, .46f, .20f}};

void sailing_boat(Canvas& c, float u0, float v0, float size) {
    const Colour sail = c.chance(.7) ? Colour{.96f, .95f, .92f} : c.pick(kCloths),
                 hull = c.pick(kCloths);
    c.paint(u0 - size, v0 - size * 2, u0 + size, v0, [&](float u, float v, Colour& out) {
        const float down = (v - v0) / size + 2;  // 0 at the tip of the mast, 2 at the water
        const float x = (u - u0) / size;
        const bool is_hull = down > 1.75f;
        out = is_hull ? hull : sail * (x > 0 ? 1.0f : .85f);
        const float half = is_hull ? .75f - (down - 1.75f) : down < 1.65f ? down * .45f : .03f;
        return c.edge((half - std::abs(x)) * size);
    });
}

void paint_sea(Canvas& c) {
    const float horizon = c.pick(.32f, .58f);
    const Sky sky = day_sky(c);
    paint_sky(c, sky, horizon);
    if (c.chance(.4)) hills(c, horizon, .04f, {.34f, .42f, .36f}, sky.horizon, .45f);
    const Colour deep = c.vary({.05f, .24f, .42f}, .05f),
                 shallow = c.vary({.10f, .46f, .54f}, .07f);
    sea(c, horizon, deep, shallow, sky.horizon, c.pick(0, 1));
    for (int i = 0; i < 4; ++i)
        if (c.chance(.35)) {
            const float down = c.pick(.01f, .22f);
            sailing_boat(c, c.pick(.1f, .9f), horizon + down, .02f + down * .35f);
        }
}

void paint_beach(Canvas& c) {
    const float horizon = c.pick(.3f, .42f), shore = c.pick(.55f, .68f),
                slant = c.pick(-.12f, .12f);
    const Sky sky = day_sky(c);
    paint_sky(c, sky, horizon);
    const Colour deep = c.vary({.06f, .36f, .55f}, .04f),
                 shallow = c.vary({.20f, .66f, .68f}, .06f);
    sea(c, horizon, deep, shallow, sky.horizon, .4f);
    const Noise line = c.noise(), fine = c.noise();
    const Colour sand = c.vary({.87f, .76f, .56f}, .04f);
    c.paint(0, shore - .2f, 1, 1, [&](float u, float v, Colour& out) {
        const float depth = v - shore - slant * (u - .5f) - .08f * (line(u * 3, .5f, 3) - .5f);
        const float grain = fine(u * 45, v * 60, 3);
        const Colour wet = mix(sand * .72f, sand, step(.02f, .12f, depth));
        out = mix(Colour{.95f, .97f, .97f}, wet * (.88f + .24f * grain), step(.005f, .025f, depth));
        return c.edge(depth - .02f * (grain - .5f));
    });
    for (int i = 0; i < 4; ++i) {
        if (!c.chance(.6)) continue;
        const float base = c.pick(shore + .12f, .97f), r = .09f * (base - horizon) / .4f,
                    u0 = c.pick(0, 1);
        const Colour cloth = c.pick(kCloths);
        box(c, u0 - .004f, base - r * 1.9f, u0 + .004f, base, {.85f, .82f, .78f});
        c.paint(
            u0 - r, base - r * 2.2f, u0 + r, base - r * 1.3f, [&](float u, float v, Colour& out) {
                const float x = (u - u0) / r, y = (v - base + r * 1.4f) / (r * .75f);
                const bool stripe = std::fmod(std::abs(std::asin(unit(std::abs(x)))) * 4, 2.0f) < 1;
                out = (stripe ? cloth : Colour{.95f, .94f, .90f}) * (1 - .2f * x);
                return y > 0 ? 0 : c.edge((1 - std::hypot(x, y)) * r);
            });
    }
}

void paint_forest(Canvas& c, bool autumn) {
    const float horizon = c.pick(.42f, .55f);
    Sky sky = day_sky(c);
    sky.zenith = mix(sky.zenith, sky.horizon, .5f);
    paint_sky(c, sky, horizon);
    const Colour haze = autumn ? Colour{.84f, .74f, .58f} : Colour{.66f, .76f, .66f};
    const Colour litter = autumn ? Colour{.64f, .38f, .17f} : Colour{.30f, .38f, .17f};
    hills(c, horizon - .08f, .06f, autumn ? Colour{.66f, .46f, .22f} : Colour{.28f, .42f, .24f},
          haze, .5f);
    grass(c, horizon, litter, litter * .55f, haze);
    if (c.chance(.5)) {  // a path
        const float bend = c.pick(-.3f, .3f), end = c.pick(.3f, .7f);
        const Noise rough = c.noise();
        c.paint(0, horizon + .02f, 1, 1, [&](float u, float v, Colour& out) {
            const float t = (v - horizon) / (1 - horizon), centre = end + bend * t * (1 - t) * 2;
            const float grain = rough(u * 30, v * 45, 3);
            out = mix({.42f, .33f, .24f}, {.68f, .56f, .42f}, grain);
            return step(0, .03f, .02f + .2f * t + .06f * (grain - .5f) - std::abs(u - centre));
        });
    }
    const double conifers = autumn ? .12 : c.pick(0, 1);
    if (autumn) {
        wood(c, horizon, horizon + .12f, 16, .5f, conifers, kAutumn, haze);
        sprinkle(c, horizon + .05f, 170, kAutumn);
        wood(c, horizon + .12f, .98f, 7, .95f, conifers, kAutumn, haze);
    } else {
        wood(c, horizon, horizon + .12f, 16, .5f, conifers, kGreens, haze);
        wood(c, horizon + .12f, .98f, 7, .95f, conifers, kConifers, haze);
    }
}

void paint_meadow(Canvas& c, bool autumn) {
    const float horizon = c.pick(.35f, .55f);
    const Sky sky = day_sky(c);
    paint_sky(c, sky, horizon);
    const Colour far = autumn ? Colour{.62f, .46f, .24f} : Colour{.30f, .46f, .22f};
    if (c.chance(.4)) mountains(c, horizon, .14f, {.42f, .44f, .50f}, sky.horizon, .03f);
    hills(c, horizon - .01f, .06f, far, sky.horizon, .35f);
    if (autumn)
        wood(c, horizon + .01f, horizon + .05f, 14, .13f, .1, kAutumn, sky.horizon);
    else
        wood(c, horizon + .01f, horizon + .05f, 14, .13f, .1, kGreens, sky.horizon);
    const Colour light = c.vary(autumn ? Colour{.84f, .68f, .34f} : Colour{.56f, .74f, .24f}, .05f);
    grass(c, horizon + .02f, light, light * .52f, mix(far, sky.horizon, .3f));
    if (autumn) {
        if (c.chance(.4)) wood(c, horizon + .2f, .9f, 2, .6f, 0, kAutumn, sky.horizon);
        sprinkle(c, horizon + .04f, 110, kAutumn);
    } else {
        if (c.chance(.4)) wood(c, horizon + .2f, .9f, 2, .6f, 0, kGreens, sky.horizon);
        const Colour first = c.pick(kPetals), second = c.pick(kPetals);
        sprinkle(c, horizon + .04f, 360, std::array{first, first, second});
    }
}

void paint_desert(Canvas& c) {
    const float horizon = c.pick(.35f, .52f);
    Sky sky = day_sky(c);
    sky.cover *= c.chance(.6) ? 0 : .7f;
    sky.horizon = mix(sky.horizon, {.93f, .86f, .72f}, .5f);
    paint_sky(c, sky, horizon);
    const Colour lit = c.vary({.93f, .72f, .44f}, .05f);
    if (c.chance(.3)) mountains(c, horizon, .12f, {.62f, .42f, .30f}, sky.horizon, 0);
    dunes(c, horizon, lit, {.50f, .30f, .17f}, sky.horizon);
    for (int i = 0; i < 3; ++i) {
        if (!c.chance(.3)) continue;
        const float base = c.pick(.7f, .97f), tall = (base - horizon) * c.pick(.5f, .9f),
                    u0 = c.pick(.05f, .95f);
        const Colour green = c.vary({.28f, .44f, .22f}, .04f);
        const float w = tall * .09f, arm = c.pick(.3f, .55f),
                    out_by = (c.chance(.5) ? 1.0f : -1.0f) * tall * .24f;
        box(c, u0 - w, base - tall, u0 + w, base, green, .3f);
        box(c, std::min(u0, u0 + out_by), base - tall * arm - w, std::max(u0, u0 + out_by),
            base - tall * arm + w, green * .9f, .3f);
        box(c, u0 + out_by - w * .8f, base - tall * (arm + .3f), u0 + out_by + w * .8f,
            base - tall * arm + w, green, .3f);
    }
}

void paint_snow(Canvas& c) {
    const float horizon = c.pick(.35f, .5f);
    Sky sky = day_sky(c);
    sky.horizon = mix(sky.horizon, {.86f, .90f, .95f}, .5f);
    paint_sky(c, sky, horizon);
    if (c.chance(.7)) mountains(c, horizon, .2f, {.36f, .40f, .50f}, {.80f, .86f, .94f}, .2f);
    const float cold = c.pick(0, 1);
    dunes(c, horizon, mix({.97f, .96f, .95f}, {.90f, .94f, .99f}, cold), {.50f, .61f, .82f},
          {.86f, .91f, .97f});
    const int trees = to_int(c.pick(3, 16));
    wood(c, horizon + .03f, .9f, trees, .42f, 1, kConifers, {.80f, .86f, .94f}, c.pick(.4f, 1));
    if (c.chance(.3)) {
        const float u0 = c.pick(.1f, .6f), base = c.pick(.7f, .85f), w = c.pick(.16f, .26f);
        const Colour timber = c.vary({.45f, .27f, .16f}, .05f);
        box(c, u0, base - w * .6f, u0 + w, base, timber, .25f);
        box(c, u0 + w * .4f, base - w * .4f, u0 + w * .58f, base - w * .2f, {.98f, .80f, .42f});
        c.paint(u0 - w * .15f, base - w * 1.1f, u0 + w * 1.15f, base - w * .55f,
                [&](float u, float v, Colour& out) {
                    out = Colour{.93f, .95f, .98f} * (u < u0 + w / 2 ? 1.0f : .86f);
                    return c.edge(std::min(v - base + w * 1.1f - std::abs(u - u0 - w / 2) * .8f,
                                           base - w * .55f - v));
                });
    }
}

void paint_canyon(Canvas& c) {
    const float floor_v = c.pick(.68f, .82f);
    Sky sky = day_sky(c);
    sky.cover *= .7f;
    paint_sky(c, sky, floor_v);
    const std::array<Colour, 5> strata{Colour{.72f, .36f, .20f},
                                       {.84f, .54f, .34f},
                                       {.56f, .26f, .16f},
                                       {.90f, .70f, .50f},
                                       {.66f, .42f, .30f}};
    const Noise bend = c.noise(), crack = c.noise(), pickers = c.noise();
    const float light_side = c.chance(.5) ? 1.0f : -1.0f, gap = c.pick(.3f, .7f);
    for (int layer = 0; layer < 3; ++layer) {
        const float near = to_float(layer) / 2, width = mix(.05f, .2f, 1 - near);
        const Noise wall = c.noise();
        const float rim = mix(.36f, .06f, near) + c.pick(-.05f, .05f);
        c.paint(0, rim - .1f, 1, floor_v + .04f, [&](float u, float v, Colour& out) {
            const float side = u < gap ? 1.0f : -1.0f, away = std::abs(u - gap);
            const float cliff = wall(v * 4 + side * 7, side * 3, 3) - .5f;
            // Each wall rises from the gap in steps and ends in a flat rim.
            const float inner = mix(.06f, .30f, near) * (1 + .9f * cliff) + width * (1 - v) * near;
            const float skyline = rim + .10f * (wall(u * 5, 9, 4) - .5f);
            const float alpha = c.edge(std::min(away - inner, v - skyline));
            if (alpha <= 0) return alpha;
            const float level =
                v * 22 * mix(1.6f, 1, near) + 3 * (bend(u * 3, v * 3 + to_float(layer), 3) - .5f);
            const int band = to_int(std::floor(level));
            const auto at = [&](int i) {
                return strata[static_cast<size_t>(pickers.lattice(i, 0) * 4.99f)];
            };
            const Colour rock =
                mix(at(band), at(band + 1), step(.7f, 1, level - std::floor(level)));
            const float rough = crack(u * 26, v * 7, 3), lit = side * light_side > 0 ? 1.05f : .62f;
            out = mix(rock * (lit * (.6f + .75f * rough)), sky.horizon, .4f * (1 - near));
            return alpha;
        });
    }
    const Noise sand = c.noise();
    const bool river = c.chance(.5);
    const Colour water = c.vary({.22f, .42f, .38f}, .05f);
    land(c, floor_v, .03f, 3, false, [&](float u, float v, float depth) {
        const float grain = sand(u * 25, v * 50, 4),
                    away = std::abs(u - gap - .1f * std::sin(depth * 20));
        const Colour bed = mix({.55f, .33f, .20f}, {.86f, .64f, .44f}, grain);
        return river
                   ? mix(bed, water * (.8f + .4f * grain), step(.02f, 0, away - .05f - depth * .8f))
                   : bed;
    });
    wood(c, floor_v, .97f, to_int(c.pick(0, 9)), .13f, 0, kGreens, {.70f, .55f, .42f});
}

void paint_lake(Canvas& c) {
    const float shore = c.pick(.5f, .62f);
    const Sky sky = day_sky(c);
    paint_sky(c, sky, shore);
    const float height = c.pick(.18f, .28f), snow = c.chance(.6) ? .09f : 0;
    mountains(c, shore - .12f, height, {.40f, .42f, .48f}, sky.horizon, snow);
    hills(c, shore - .05f, .07f, {.20f, .36f, .22f}, sky.horizon, .25f);
    wood(c, shore - .01f, shore, 26, .12f, .8, kConifers, {.45f, .55f, .50f});
    const Colour water = c.vary({.12f, .32f, .36f}, .05f);
    mirror(c, shore, water, c.pick(.5f, .75f));
    if (c.chance(.6))
        grass(c, c.pick(.86f, .93f), {.48f, .60f, .22f}, {.22f, .30f, .12f}, {.3f, .4f, .2f});
}

void paint_sunset(Canvas& c) {
    const float horizon = c.pick(.5f, .75f), u0 = c.pick(.2f, .8f), warm = c.pick(0, 1);
    const Sky sky{mix({.26f, .24f, .48f}, {.50f, .30f, .46f}, warm),
                  mix({.98f, .62f, .32f}, {.98f, .48f, .18f}, warm),
                  {1, .66f, .42f},
                  {.44f, .26f, .38f},
                  c.pick(.3f, .75f)};
    paint_sky(c, sky, horizon);
    const float v0 = horizon - c.pick(.01f, .16f);
    glow(c, u0, v0, .35f, {.55f, .26f, .04f}, .8f);
    disc(c, u0, v0, .035f, {1, .93f, .70f});
    if (c.chance(.5)) {
        hills(c, horizon - .01f, .03f, {.16f, .10f, .16f}, sky.horizon, .2f);
        mirror(c, horizon, {.20f, .14f, .26f}, .8f);
        if (c.chance(.6)) sailing_boat(c, c.pick(.15f, .85f), horizon + .1f, .06f);
    } else {
        mountains(c, horizon, .1f, {.30f, .18f, .26f}, sky.horizon, 0);
        hills(c, horizon + .06f, .07f, {.20f, .12f, .14f}, sky.horizon, .08f);
        hills(c, horizon + .18f, .06f, {.09f, .06f, .07f}, sky.horizon, 0);
        wood(c, horizon + .1f, .99f, 5, .4f, .4, std::array{Colour{.07f, .05f, .06f}},
             {.1f, .07f, .08f});
    }
}

void paint_city(Canvas& c, bool night) {
    const float street = c.pick(.7f, .8f);
    if (night) {
        const Colour top = c.vary({.05f, .07f, .17f}, .02f);
        paint_sky(c,
                  {top,
                   c.vary({.34f, .22f, .26f}, .05f),
                   {.30f, .24f, .30f},
                   {.10f, .10f, .18f},
                   c.pick(0, .5f)},
                  street);
        if (c.chance(.6)) {
            const float u = c.pick(.1f, .9f), v = c.pick(.06f, .2f);
            glow(c, u, v, .1f, {.25f, .25f, .28f}, .7f);
            disc(c, u, v, .028f, {.96f, .94f, .84f});
        }
    } else {
        paint_sky(c, day_sky(c), street);
    }
    for (int row = 0; row < 3; ++row) {
        const float near = to_float(row) / 2;
        for (float u = c.pick(-.15f, 0); u < 1;) {
            const float width = c.pick(.10f, .22f),
                        top = street - mix(.6f, .4f, near) * c.pick(.45f, 1);
            const Colour wall = c.pick(kWalls);
            const Facade facade =
                night ? Facade{wall * .16f + Colour{.02f, .02f, .06f}, {.07f, .09f, .16f}, .45f}
                      : Facade{
                            mix({.74f, .80f, .86f}, wall, .5f + .5f * near), {.30f, .38f, .48f}, 0};
            building(c, u, u + width, top, street + .01f, facade);
            u += width + c.pick(-.02f, .06f);
        }
    }
    const Noise asphalt = c.noise();
    if (night) {
        mirror(c, street, {.06f, .06f, .10f}, .55f);  // wet
    } else {
        ground(c, street - .02f, [&](float u, float, float z, float) {
            return Colour{.40f, .40f, .43f} * (.92f + .16f * asphalt(u * 50, 200 / z, 3));
        });
        wood(c, street + .02f, street + .05f, to_int(c.pick(1, 7)), .2f, 0, kGreens,
             {.5f, .55f, .5f});
    }
    for (int i = 0; i < 6; ++i) {
        const float u = c.pick(0, 1), v = street + c.pick(.05f, .2f);
        if (night) {  // street lamps
            glow(c, u, street - .05f, .05f, {1, .62f, .22f}, .7f);
            disc(c, u, street - .05f, .009f, {1, .90f, .64f});
        } else if (c.chance(.6)) {  // cars
            const float w = .05f + (v - street) * .3f;
            const Colour paint = c.pick(kCloths);
            box(c, u - w, v - w * .42f, u + w, v, paint);
            box(c, u - w * .55f, v - w * .75f, u + w * .5f, v - w * .4f,
                mix(paint, {.3f, .4f, .5f}, .7f));
            disc(c, u - w * .6f, v, w * .17f, {.1f, .1f, .1f});
            disc(c, u + w * .6f, v, w * .17f, {.1f, .1f, .1f});
        }
    }
}

void paint_room(Canvas& c) {
    const float u0 = c.pick(.14f, .28f), u1 = c.pick(.72f, .86f), v0 = c.pick(.1f, .18f),
                v1 = c.pick(.58f, .68f);
    const std::array walls{Colour{.90f, .83f, .68f}, Colour{.86f, .68f, .58f},
                           Colour{.70f, .78f, .66f}, Colour{.66f, .75f, .82f},
                           Colour{.88f, .78f, .50f}};
    const Colour wall = c.pick(walls), wood_colour = c.vary({.58f, .36f, .19f}, .08f);
    const Noise plaster = c.noise(), grain = c.noise();
    const float cu = (u0 + u1) / 2, cv = mix(v0, v1, .5f);
    c.paint(0, 0, 1, 1, [&](float u, float v, Colour& out) {
        const float across = std::max((u0 - u) / u0, (u - u1) / (1 - u1));
        const float up = (v0 - v) / v0, down = (v - v1) / (1 - v1);
        const float rough = .96f + .08f * plaster(u * 8, v * 8, 3);
        if (down > std::max(across, 0.0f)) {
            const float z = 1 / (v - cv), x = (u - cu) * z;  // floor boards run away from us
            const float board = grain.lattice(to_int(std::floor(x * 7)), 5);
            const float seam = std::abs(x * 7 - std::floor(x * 7) - .5f);
            out = wood_colour * ((.8f + .35f * board) * (.85f + .3f * grain(x * 30, z * 2, 3)) *
                                 (seam > .46f ? .7f : 1.0f));
        } else if (up > std::max(across, 0.0f)) {
            out = Colour{.93f, .92f, .89f} * (rough * .95f);
        } else {
            out = wall * (rough * (across > 0 ? (u < cu ? .82f : .72f) : 1.0f));
        }
        return 1.0f;
    });
    const float wu = c.pick(u0 + .04f, u1 - .24f), ww = c.pick(.15f, .2f);
    const Colour frame{.94f, .93f, .90f}, curtain = c.pick(kCloths);
    box(c, wu - .015f, v0 + .06f, wu + ww + .015f, v0 + .34f, frame);
    box(c, wu, v0 + .075f, wu + ww, v0 + .24f, {.66f, .82f, .95f});
    box(c, wu, v0 + .23f, wu + ww, v0 + .325f, {.40f, .55f, .26f}, .5f);
    box(c, wu + ww / 2 - .006f, v0 + .07f, wu + ww / 2 + .006f, v0 + .33f, frame);
    for (const float at : {wu - .05f, wu + ww - .005f})
        c.paint(at, v0 + .04f, at + .055f, v0 + .42f, [&](float u, float, Colour& out) {
            out = curtain * (.8f + .25f * std::sin(u * 260));
            return 1.0f;
        });
    if (c.chance(.7)) {  // a picture
        const float pu = wu > cu - .05f ? u0 + .03f : u1 - .17f;
        box(c, pu, v0 + .1f, pu + .13f, v0 + .25f, wood_colour * .6f);
        box(c, pu + .012f, v0 + .112f, pu + .118f, v0 + .18f, c.pick(kCloths), .3f);
        box(c, pu + .012f, v0 + .18f, pu + .118f, v0 + .238f, c.pick(kGreens), .5f);
    }
    const Noise pile = c.noise();
    const Colour rug = c.pick(kCloths);
    const float ru = c.pick(.35f, .65f), rv = (v1 + 1) / 2 + .05f;
    c.paint(ru - .36f, rv - .12f, ru + .36f, rv + .12f, [&](float u, float v, Colour& out) {
        const float r = std::hypot((u - ru) / .36f, (v - rv) / .12f);
        out = (std::fmod(r * 5, 2.0f) < 1 ? rug : mix(rug, {.9f, .85f, .75f}, .5f)) *
              (.8f + .4f * pile(u * 70, v * 70, 2));
        return c.edge((1 - r) * .12f);
    });
    const float su = c.pick(.12f, .42f), sw = c.pick(.36f, .46f), sv = v1 + .13f;  // sofa
    const Colour cloth = c.pick(kCloths);
    box(c, su, sv - .27f, su + sw, sv, cloth * .85f, .12f);
    box(c, su + .03f, sv - .13f, su + sw - .03f, sv - .05f, cloth * 1.12f, .12f);
    box(c, su - .03f, sv - .17f, su + .035f, sv + .01f, cloth, .12f);
    box(c, su + sw - .035f, sv - .17f, su + sw + .03f, sv + .01f, cloth * .8f, .12f);
    box(c, su + .06f, sv - .22f, su + .14f, sv - .12f, c.pick(kCloths), .1f);
    const float lu = su > .25f ? su - .09f : su + sw + .1f;  // lamp, then a plant on the other side
    if (c.chance(.6)) {
        box(c, lu - .006f, sv - .42f, lu + .006f, sv, {.25f, .2f, .18f});
        glow(c, lu, sv - .42f, .16f, {.5f, .36f, .14f}, .5f);
        c.paint(lu - .06f, sv - .47f, lu + .06f, sv - .38f, [&](float u, float v, Colour& out) {
            out = {1, .90f, .66f};
            return c.edge(.025f + (v - sv + .47f) * .35f - std::abs(u - lu));
        });
    } else {
        broadleaf(c, lu, sv - .04f, .3f, c.pick(kGreens));
        box(c, lu - .035f, sv - .08f, lu + .035f, sv + .01f, {.68f, .38f, .24f});
    }
}

struct Scene {
    const char* name;
    void (*paint)(Canvas&);
};
constexpr Scene kScenes[] = {
    {"autumn_forest", [](Canvas& c) { paint_forest(c, true); }},
    {"autumn_meadow", [](Canvas& c) { paint_meadow(c, true); }},
    {"beach", paint_beach},
    {"canyon", paint_canyon},
    {"city_day", [](Canvas& c) { paint_city(c, false); }},
    {"city_night", [](Canvas& c) { paint_city(c, true); }},
    {"desert", paint_desert},
    {"forest", [](Canvas& c) { paint_forest(c, false); }},
    {"lake", paint_lake},
    {"room", paint_room},
    {"sea", paint_sea},
    {"snow", paint_snow},
    {"spring_meadow", [](Canvas& c) { paint_meadow(c, false); }},
    {"sunset", paint_sunset},
};

}  // namespace

const std::vector<std::string>& scene_names() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> all;
        for (const Scene& scene : kScenes) all.push_back(scene.name);
        return all;
    }();
    return names;
}

Image render_scene(int64_t scene_class, int64_t size, uint64_t seed, uint32_t index) {
    if (scene_class < 0 || scene_class >= static_cast<int64_t>(std::size(kScenes)) || size < 16 ||
        size > 4096)
        throw UsageError("render_scene: class " + std::to_string(scene_class) + " of " +
                         std::to_string(std::size(kScenes)) + ", size " + std::to_string(size) +
                         " not in 16..4096");
    Canvas canvas(size, seed, static_cast<uint32_t>(scene_class), index);
    kScenes[scene_class].paint(canvas);
    return canvas.photo();
}

}  // namespace lumachrome
