// The tables of a study's results.
import { $, element, percent, show } from "./dom.js";
import { kVariants, median, summary } from "./experiment.js";

const share = (value) => (Number.isNaN(value) ? "–" : percent(value, 1));
const seconds = (milliseconds) => (milliseconds / 1000).toFixed(1);

const column = (textContent) => element("th", { scope: "col", textContent });
const cell = (textContent) => element("td", { textContent });
const row = (name, ...cells) => element("tr", {}, element("th", { scope: "row", textContent: name }), ...cells);
const part = (className) => element("span", { className });

// Where the share may lie, as a bar and in figures.
function interval(variant) {
    const range = element("span", { className: "range" }, part("range-reach"), part("range-dot"));
    for (const key of ["low", "high", "share"]) range.style.setProperty(`--${key}`, variant[key] || 0);
    const figures = part("muted small");
    figures.textContent = `${percent(variant.low, 1)} – ${percent(variant.high, 1)}`;
    return element("td", { className: "wide" }, range, figures);
}

function variantRow(variant) {
    const natural = cell(share(variant.share));
    natural.className = "strong";
    const answers = cell(`${variant.natural} of ${variant.count}`);
    const made = row(kVariants[variant.variant], natural, interval(variant), answers, cell(share(variant.median)));
    made.dataset.variant = variant.variant;
    return made;
}

const personRow = (name, shares, count, milliseconds) =>
    row(name, ...shares.map((value) => cell(share(value))), cell(count), cell(seconds(milliseconds)));

export function paintResults(experiment) {
    const { variants, participants } = summary(experiment);
    const any = participants.length > 0;
    show($("results-empty"), !any);
    show($("results-body"), any);
    $("export-csv").disabled = $("export-json").disabled = !any;
    $("results-variants").replaceChildren(...variants.map(variantRow));
    const heads = ["Participant", ...variants.map(({ variant }) => kVariants[variant]), "Answers", "Seconds"];
    $("results-people-head").replaceChildren(element("tr", {}, ...heads.map(column)));
    const over = (key) => median(participants.map((person) => person[key]));
    $("results-people").replaceChildren(
        ...participants.map(({ name, shares, count, milliseconds }) => personRow(name, shares, count, milliseconds)),
        personRow("Median", variants.map((variant) => variant.median), over("count"), over("milliseconds")));
}
