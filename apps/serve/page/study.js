// The study: "does this image look natural to you?" (section 5.3 of the paper).
// experiment.js holds what is asked and answered.
import { $, element, say, show } from "./dom.js";
import * as experiments from "./experiment.js";
import { onChoice, save } from "./files.js";
import { Photo, limit } from "./photo.js";
import { paintResults } from "./results.js";
import { Trial } from "./trial.js";
import { crc32 } from "./zip.js";

const kKey = "lumachrome-study";
const kShown = 640; // longer side of what participants see
const kQuality = 90;
const kBaselines = {
    none: "There is no baseline: participants see originals and results only.",
    zero: "Baseline: the same network with its global features set to zero.",
};

export class StudyView {
    #model;
    #experiment;
    #images = new Map(); // fingerprint -> {variant: object URL}
    #preparing = { done: 0, all: 0 };
    #lane = limit(2); // of photos in memory

    constructor(model) {
        this.#model = model;
        this.#experiment = this.#kept() ?? this.#empty();
        onChoice("study-input", (files) => this.add(files));
        onChoice("import-input", ([file]) => this.#import(file));
        for (const field of ["question", "seed"])
            $(`study-${field}`).addEventListener("change", (event) => {
                this.#experiment[field] = event.target.value.trim() || this.#empty()[field];
                this.#changed();
            });
        $("participant-form").addEventListener("submit", (event) => {
            event.preventDefault();
            this.#enrol($("participant-name").value.trim());
        });
        this.#exports("csv", "text/csv", experiments.toCsv);
        this.#exports("json", "application/json", experiments.toJson);
        this.#connectClear();
        this.#paint();
    }

    #exports(extension, type, write) {
        $(`export-${extension}`).addEventListener("click", () =>
            save(new Blob([write(this.#experiment)], { type }), `lumachrome-study.${extension}`));
    }
    #empty() {
        const all = Object.keys(experiments.kVariants), absent = this.#model.baseline === "none" ? "baseline" : null;
        return experiments.emptyExperiment(all.filter((variant) => variant !== absent));
    }
    // A study without participants is not worth keeping: its photos are gone.
    #kept() {
        try {
            const kept = experiments.parse(localStorage.getItem(kKey) ?? "{}");
            return kept.participants.length > 0 ? kept : null;
        } catch {
            return null;
        }
    }
    #changed() {
        try {
            localStorage.setItem(kKey, JSON.stringify(this.#experiment));
        } catch {
            say($("study-message"), "This browser has no room left for the answers: export them before closing the page.");
        }
        this.#paint();
    }
    // The second click within a few seconds counts.
    #connectClear() {
        const button = $("study-clear"), text = button.textContent;
        let sure = false;
        button.addEventListener("click", () => {
            if (sure) {
                this.#images.forEach((images) => Object.values(images).forEach(URL.revokeObjectURL));
                this.#images.clear();
                this.#experiment = this.#empty();
                $("study-failures").replaceChildren();
                say($("study-message"), "");
                this.#changed();
            }
            sure = !sure;
            button.textContent = sure ? "Delete photos and answers?" : text;
            if (sure) setTimeout(() => { sure = false; button.textContent = text; }, 4000);
        });
    }

    async #import(file) {
        try {
            this.#experiment = experiments.parse(await file.text());
            say($("study-message"), "");
            this.#changed();
        } catch (error) {
            const text = error instanceof SyntaxError ? "this file is no study of lumachrome" : error.message;
            say($("study-message"), `${file.name}: ${text}`); // what JSON.parse() says is of no use to people
        }
    }

    // Photos ------------------------------------------------------------------------------------------

    async add(files) {
        this.#preparing.all += files.length;
        this.#paintPhotos();
        await Promise.all(files.map(async (file) => {
            try {
                await this.#lane(() => this.#prepare(file));
            } catch (error) {
                $("study-failures").append(element("li", { textContent: `${file.name}: ${error.message}` }));
            }
            ++this.#preparing.done;
            this.#paintPhotos();
        }));
        if (this.#preparing.done === this.#preparing.all) this.#preparing = { done: 0, all: 0 };
        this.#paint();
    }

    async #prepare(file) {
        const fingerprint = crc32(new Uint8Array(await file.arrayBuffer()));
        if (this.#images.has(fingerprint)) return;
        const known = this.#experiment.photos.some((photo) => photo.fingerprint === fingerprint);
        if (!known && this.#experiment.participants.length > 0)
            throw new Error("is not part of this study; start over to change its photos");
        const photo = new Photo(file, this.#model.limits);
        try {
            const images = {};
            for (const variant of this.#experiment.variants) {
                const blob = variant === "truth" ? await photo.original(kShown, "truth")
                    : (await photo.colorize({ max: kShown, format: "jpeg", quality: kQuality, variant })).blob;
                images[variant] = URL.createObjectURL(blob);
            }
            this.#images.set(fingerprint, images);
            if (!known) experiments.addPhoto(this.#experiment, { name: file.name, fingerprint });
        } finally {
            photo.drop();
        }
    }

    get #missing() {
        return this.#experiment.photos.filter((photo) => !this.#images.has(photo.fingerprint)).length;
    }

    // Participants ------------------------------------------------------------------------------------

    #enrol(name) {
        const { participants } = this.#experiment;
        const index = participants.findIndex((participant) => participant.name === name);
        if (index >= 0)
            return say($("study-message"), `${name} has taken part already; choose another name, or Continue in the list.`);
        participants.push({ name, answers: [] });
        $("participant-name").value = "";
        this.#changed();
        this.#run(participants.length - 1);
    }

    async #run(index) {
        say($("study-message"), "");
        const { participants, photos, question } = this.#experiment;
        const order = experiments.sequence(this.#experiment, index);
        await new Trial({
            question,
            answers: participants[index].answers,
            order,
            imageOf: ({ photo, variant }) => this.#images.get(photos[photo].fingerprint)[variant],
            changed: () => this.#changed(),
        }).run();
        this.#paint();
        if (participants[index].answers.length === order.length) $("results").scrollIntoView();
    }

    // Painting ----------------------------------------------------------------------------------------

    #paint() {
        $("study-question").value = this.#experiment.question;
        $("study-seed").value = this.#experiment.seed;
        const begun = this.#experiment.participants.length > 0;
        $("study-seed").disabled = $("study-question").disabled = begun;
        $("study-baseline").textContent = kBaselines[this.#model.baseline] ?? `Baseline: ${this.#model.baseline}.`;
        this.#paintPhotos();
        this.#paintParticipants();
        paintResults(this.#experiment);
    }

    #paintPhotos() {
        const { photos } = this.#experiment, { done, all } = this.#preparing;
        const missing = this.#missing;
        show($("study-progress"), all > 0);
        $("study-progress").value = all ? done / all : 0;
        $("study-photos").textContent = all > 0 ? `Preparing ${done} of ${all}…`
            : photos.length === 0 ? ""
                : missing > 0 ? `Add the same photos again to go on: ${missing} of ${photos.length} are missing.`
                    : `${photos.length} photos, ${experiments.trials(this.#experiment)} images.`;
        const ready = photos.length > 0 && missing === 0 && all === 0;
        $("participant-start").disabled = !ready;
        for (const button of $("participants").querySelectorAll("button")) button.disabled = !ready;
    }

    #paintParticipants() {
        const all = experiments.trials(this.#experiment);
        $("participants").replaceChildren(...this.#experiment.participants.map(({ name, answers }, index) => {
            const item = element("li", {}, element("span", { className: "person", textContent: name }));
            if (answers.length >= all) {
                item.append(element("span", { className: "muted", textContent: "done" }));
            } else {
                const button = element("button", { type: "button", textContent: "Continue", disabled: this.#missing > 0 });
                button.setAttribute("aria-label", `Continue with ${name}`);
                button.addEventListener("click", () => this.#run(index));
                item.append(element("span", { className: "muted", textContent: `${answers.length} of ${all}` }), button);
            }
            return item;
        }));
        $("participant-name").placeholder = `Participant ${this.#experiment.participants.length + 1}`;
    }
}
