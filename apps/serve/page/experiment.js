// A user study as plain data: what was asked, in which order, what was answered, and what follows. No document here.
//
// experiment: {format, seed, question, variants, photos: [{name, fingerprint}], participants: [{name, answers}]}
// answer: {photo, variant, natural, milliseconds}; photo is an index.

export const kFormat = "lumachrome study 1";
export const kVariants = { truth: "Original", color: "lumachrome", baseline: "Baseline" };

export const emptyExperiment = (variants) => ({
    format: kFormat,
    seed: String(Math.floor(Math.random() * 1e6)),
    question: "Does this image look natural to you?",
    variants,
    photos: [],
    participants: [],
});

// In an order of their own, so that it does not matter which was ready first.
export function addPhoto({ photos }, photo) {
    const key = ({ name, fingerprint }) => `${name}/${fingerprint}`;
    photos.push(photo);
    photos.sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

// Random numbers in [0, 1) that depend on the text alone: FNV-1a, then mulberry32.
function randomOf(text) {
    let state = 0x811c9dc5;
    for (const byte of new TextEncoder().encode(text)) state = Math.imul(state ^ byte, 0x01000193);
    return () => {
        state = (state + 0x6d2b79f5) | 0;
        let mixed = Math.imul(state ^ (state >>> 15), state | 1);
        mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
}

function shuffled(items, random) {
    const mixed = [...items];
    for (let i = mixed.length - 1; i > 0; --i) {
        const other = Math.floor(random() * (i + 1));
        [mixed[i], mixed[other]] = [mixed[other], mixed[i]];
    }
    return mixed;
}

// [{photo, variant}] for one participant. Every photo comes once in each round, and which of its variants that is, is
// random. From one round to the next the halves are shuffled apart, so that half the photos lie between two variants of one.
export function sequence(experiment, participant) {
    const random = randomOf(`${experiment.seed}/${participant}`);
    const variants = experiment.photos.map(() => shuffled(experiment.variants, random));
    let photos = shuffled(experiment.photos.keys(), random);
    const half = Math.ceil(photos.length / 2);
    return experiment.variants.flatMap((_, round) => {
        if (round > 0) photos = [...shuffled(photos.slice(0, half), random), ...shuffled(photos.slice(half), random)];
        return photos.map((photo) => ({ photo, variant: variants[photo][round] }));
    });
}

export const trials = (experiment) => experiment.photos.length * experiment.variants.length;

export function median(values) {
    if (values.length === 0) return NaN;
    const sorted = [...values].sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// Wilson's score interval at 95 % for `hits` of `count`.
export function wilson(hits, count) {
    if (count === 0) return { low: 0, high: 1 };
    const z = 1.959964, share = hits / count;
    const middle = (share + (z * z) / (2 * count)) / (1 + (z * z) / count);
    const reach = (z / (1 + (z * z) / count)) * Math.sqrt((share * (1 - share)) / count + (z * z) / (4 * count * count));
    return { low: Math.max(0, middle - reach), high: Math.min(1, middle + reach) };
}

const naturalOf = (answers) => answers.filter((answer) => answer.natural).length;
const shareOf = (answers) => (answers.length ? naturalOf(answers) / answers.length : NaN);
const of = (answers, variant) => answers.filter((answer) => answer.variant === variant);

// {variants: [{variant, count, natural, share, low, high, median}], participants: [{name, count, shares, milliseconds}]}
export function summary({ variants, participants }) {
    const people = participants.filter(({ answers }) => answers.length > 0).map(({ name, answers }) => ({
        name,
        count: answers.length,
        shares: variants.map((variant) => shareOf(of(answers, variant))),
        milliseconds: median(answers.map((answer) => answer.milliseconds)),
    }));
    const all = participants.flatMap(({ answers }) => answers);
    return {
        participants: people,
        variants: variants.map((variant, i) => {
            const answers = of(all, variant);
            return {
                variant,
                count: answers.length,
                natural: naturalOf(answers),
                share: shareOf(answers),
                ...wilson(naturalOf(answers), answers.length),
                median: median(people.map(({ shares }) => shares[i]).filter((share) => !Number.isNaN(share))),
            };
        }),
    };
}

// A quote around a cell that needs one; a spreadsheet must not take a name for a formula.
function cell(value) {
    const text = String(value).replace(/^[=+\-@\t\r]/, "'$&");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// One line per answer, in the order given.
export function toCsv({ photos, participants }) {
    const heads = ["participant", "position", "photo", "variant", "natural", "milliseconds"];
    const rows = participants.flatMap(({ name, answers }) =>
        answers.map(({ photo, variant, natural, milliseconds }, i) =>
            [name, i + 1, photos[photo].name, variant, natural ? 1 : 0, milliseconds]));
    return [heads, ...rows].map((row) => row.map(cell).join(",") + "\r\n").join("");
}

// All that parse() needs, and the results beside it.
export const toJson = (experiment) => JSON.stringify({ ...experiment, summary: summary(experiment) }, null, 1);

const isText = (value) => typeof value === "string";
const isPhoto = (photo) => isText(photo?.name) && Number.isInteger(photo.fingerprint);
const isAnswer = (answer, { photos, variants }) =>
    Object.hasOwn(photos, answer?.photo) && Number.isInteger(answer.photo) && variants.includes(answer.variant) &&
    typeof answer.natural === "boolean" && Number.isFinite(answer.milliseconds);
const isParticipant = (participant, study) =>
    isText(participant?.name) && Array.isArray(participant.answers) &&
    participant.answers.every((answer) => isAnswer(answer, study));
const isStudy = (study) =>
    study?.format === kFormat && isText(study.seed) && isText(study.question) &&
    Array.isArray(study.variants) && study.variants.every((variant) => Object.hasOwn(kVariants, variant)) &&
    Array.isArray(study.photos) && study.photos.every(isPhoto) &&
    Array.isArray(study.participants) && study.participants.every((participant) => isParticipant(participant, study));

// Throws SyntaxError when the text is no study.
export function parse(text) {
    const { summary: _, ...study } = JSON.parse(text) ?? {}; // a summary is made again when it is wanted
    if (!isStudy(study)) throw new SyntaxError("this file is no study of lumachrome");
    return study;
}
