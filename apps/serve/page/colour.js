// The view that colours photos: a film strip, the photo on the stage, and what can be changed about its colours.
import { startBatch } from "./batch.js";
import { Compare } from "./compare.js";
import { $, checked, clone, element, percent, say, show } from "./dom.js";
import { onChoice, save, stem } from "./files.js";
import { Photo, Source, copySettings, defaultSettings } from "./photo.js";

const kQuick = 512, kPreview = 1024, kSharp = 2048; // longer sides of previews
const kDownloadQuality = 95;
const kExtension = { jpeg: ".jpg", png: ".png" };
const kTones = {
    color: "This photo has colours already. What you see after is made from its black-and-white version.",
    tinted: "This photo is tinted. Its own tint does not count; only how bright it is.",
    gray: "",
};

const spoken = (label) => label.replaceAll("_", " ");

export class ColourView {
    #photos = [];
    #library = []; // styles that are no photos of the film strip
    #current = null;
    #compare = new Compare();
    #model;
    #timer = 0;

    constructor(model) {
        this.#model = model;
        $("limits").textContent = `, up to ${Math.floor(model.limits.body_bytes / 2 ** 20)} MiB each`;
        for (const label of [...model.classes].sort())
            $("classes").append(element("option", { value: label, textContent: spoken(label) }));
        show($("scene-section"), model.classes.length > 0);
        show($("style-section"), model.styles);
        show($("style-file"), model.styles);
        this.#connect();
    }

    #connect() {
        onChoice("photo-input", (files) => this.add(files));
        onChoice("style-input", (files) => this.addStyles(files));
        for (const radio of document.querySelectorAll('[name="view"]'))
            radio.addEventListener("change", () => { this.#compare.view = checked("view"); });
        $("before").addEventListener("change", () => this.#loadBefore(this.#current));
        $("saturation").addEventListener("input", () =>
            this.#adjust({ saturation: $("saturation").valueAsNumber }, true));
        $("saturation").addEventListener("change", () => this.#adjust({}));
        $("size").addEventListener("change", () => this.#adjust({ size: $("size").value }));
        $("classes").addEventListener("change", () => this.#adjust({ scene: $("classes").value || null }));
        $("reset").addEventListener("click", () => this.#adjust(defaultSettings()));
        $("for-all").addEventListener("click", () => this.#useForAll());
        $("style-file").addEventListener("click", () => this.#saving($("style-file"), async (photo) =>
            save(await photo.styleFile(), `${stem(photo.name)}.style`)));
        $("download").addEventListener("click", () => this.#saving($("download"), async (photo) => {
            const { blob, name } = await this.#render(photo);
            save(blob, name);
        }));
        startBatch({ photos: () => this.#ready, render: (photo, signal) => this.#render(photo, signal) });
    }

    get #ready() {
        return this.#photos.filter((photo) => photo.id);
    }

    // At its own size, in the format chosen.
    async #render(photo, signal) {
        const format = checked("format");
        const { blob } = await photo.colorize({ format, quality: kDownloadQuality }, signal);
        return { blob, name: photo.resultName + kExtension[format] };
    }

    // Runs `task` on the photo shown; its button waits, its error stands under the photo.
    async #saving(button, task) {
        const photo = this.#current;
        button.disabled = true;
        button.setAttribute("aria-busy", "true");
        try {
            await task(photo);
            this.#setError(photo, "");
        } catch (error) {
            this.#setError(photo, error.message);
        }
        button.removeAttribute("aria-busy");
        button.disabled = false;
        this.#paintStage();
    }

    // Photos ------------------------------------------------------------------------------------------

    add(files) {
        const photos = files.map((file) => new Photo(file, this.#model.limits));
        this.#photos.push(...photos);
        for (const photo of photos) {
            this.#addToFilm(photo);
            this.#start(photo);
        }
        show($("welcome"), false);
        show($("workspace"), true);
        this.#select(photos[0]);
    }

    async #start(photo) {
        const removed = () => !this.#photos.includes(photo);
        try {
            await photo.hold((share) => this.#paintFilm(photo, share));
        } catch (error) {
            if (removed()) return;
            this.#setError(photo, error.message);
            this.#select(this.#current);
            return;
        }
        if (removed()) return photo.drop(); // it had no id to be forgotten by
        this.#paintFilm(photo);
        if (this.#current === photo || (this.#current.error && !this.#current.id)) this.#select(photo);
        else this.#paintCandidates();
        this.#preview(photo, kPreview);
    }

    #remove(photo) {
        photo.drop();
        photo.item.remove();
        for (const other of this.#photos) {
            const { styles } = other.settings, kept = styles.filter((style) => style.source !== photo);
            if (kept.length === styles.length || other === photo) continue;
            other.settings.styles = kept;
            this.#preview(other, kPreview);
        }
        const index = this.#photos.indexOf(photo);
        this.#photos.splice(index, 1);
        if (this.#photos.length === 0) {
            this.#current = null;
            show($("workspace"), false);
            show($("welcome"), true);
        } else {
            const next = this.#photos[Math.min(index, this.#photos.length - 1)];
            this.#select(this.#current === photo ? next : this.#current);
        }
    }

    #select(photo) {
        this.#current = photo;
        for (const { item } of this.#photos)
            item.querySelector(".film-open").setAttribute("aria-current", item === photo.item);
        const { offsetLeft, offsetWidth } = photo.item, film = $("film");
        film.scrollLeft = Math.min(offsetLeft, Math.max(film.scrollLeft, offsetLeft + offsetWidth - film.clientWidth));
        this.#paintStage();
        this.#paintPanel();
        this.#loadBefore(photo);
    }

    #setError(photo, text) {
        photo.error = text;
        this.#paintFilm(photo);
    }

    // Previews ----------------------------------------------------------------------------------------

    // Changes settings of the photo shown. `live`: more changes are about to come.
    #adjust(change, live = false) {
        const photo = this.#current;
        Object.assign(photo.settings, change);
        this.#paintPanel(live);
        clearTimeout(this.#timer);
        if (live) this.#timer = setTimeout(() => this.#preview(photo, kQuick), 60);
        else this.#preview(photo, kPreview);
    }

    async #preview(photo, max) {
        if (!photo.id) return;
        try {
            const refreshed = photo.refresh(max);
            if (photo === this.#current) this.#paintBusy();
            await refreshed;
            photo.error = "";
        } catch (error) {
            if (error.name === "AbortError") return;
            photo.error = error.message;
        }
        this.#paintFilm(photo);
        if (photo !== this.#current) return;
        this.#paintStage();
        this.#loadBefore(photo);
        const larger = Math.max(photo.width, photo.height) > kPreview && this.#compare.pixels > 1.2 * kPreview;
        if (max === kPreview && larger && !photo.error) this.#preview(photo, kSharp);
    }

    // As sharp as the result, so that nothing but colour changes at the divider.
    async #loadBefore(photo) {
        if (!photo.id) return;
        const variant = photo.tone === "gray" ? "gray" : $("before").value;
        try {
            await photo.loadBefore(Math.max(kPreview, photo.result?.max ?? 0), variant);
        } catch (error) {
            photo.error = error.message;
        }
        if (photo === this.#current) this.#paintStage();
    }

    #useForAll() {
        for (const photo of this.#photos) {
            if (photo === this.#current) continue;
            photo.settings = copySettings(this.#current.settings);
            this.#preview(photo, kPreview);
        }
    }

    // Styles ------------------------------------------------------------------------------------------

    async addStyles(files) {
        const failures = [];
        for (const file of files) {
            const source = new Source(file, "styles", this.#model.limits);
            try {
                await source.hold();
                this.#library.push(source);
                this.#addStyle(source);
            } catch (error) {
                source.drop();
                failures.push(`${source.name}: ${error.message}`);
            }
        }
        say($("style-message"), failures.join("\n"));
    }

    #addStyle(source) {
        this.#adjust({ styles: [...this.#current.settings.styles, { source, weight: 1 }] });
    }

    // Painting ----------------------------------------------------------------------------------------

    #addToFilm(photo) {
        photo.item = clone("film-template");
        const [open, remove] = photo.item.querySelectorAll("button");
        photo.item.querySelector(".film-name").textContent = photo.name;
        photo.item.title = photo.name;
        remove.setAttribute("aria-label", `Remove ${photo.name}`);
        open.addEventListener("click", () => this.#select(photo));
        remove.addEventListener("click", () => this.#remove(photo));
        $("film").append(photo.item);
        this.#paintFilm(photo, 0);
    }

    // `share`: how much of the photo has been sent.
    #paintFilm(photo, share = 1) {
        const parts = [".film-progress", ".film-error", "img"];
        const [progress, error, image] = parts.map((part) => photo.item.querySelector(part));
        if (image.getAttribute("src") !== photo.thumbnail) image.src = photo.thumbnail;
        show(image, photo.result !== null || !photo.error);
        photo.item.classList.toggle("waiting", !photo.result);
        photo.item.classList.toggle("failed", photo.error !== "");
        progress.value = share;
        show(progress, share < 1 && !photo.error);
        say(error, photo.error);
    }

    #paintStage() {
        const photo = this.#current;
        const held = photo.width !== undefined;
        this.#compare.show({
            name: photo.name,
            before: photo.before?.url ?? (photo.error ? null : photo.localUrl),
            after: photo.result?.url ?? null,
            width: photo.width ?? 3,
            height: photo.height ?? 2,
        });
        this.#paintBusy();
        show($("compare"), held || !photo.error);
        say($("message"), photo.error && `${photo.name}: ${photo.error}`);
        say($("note"), kTones[photo.tone] ?? "");
        show($("before-choice"), held && photo.tone !== "gray");
        $("download").disabled = !held;
        const { width, height, milliseconds } = photo.result?.network ?? {};
        $("network").textContent = width ? `Now: ${width} × ${height} pixels, ${Math.round(milliseconds)} ms.` : "";
    }

    // Nobody waits for the sharp preview: there is another one to look at.
    #paintBusy() {
        const { id, error, pending } = this.#current;
        this.#compare.busy(!id && !error ? "Sending…" : pending > 0 && pending < kSharp ? "Colouring…" : "");
    }

    // `live`: a slider is being moved, which must not be replaced under the hand.
    #paintPanel(live = false) {
        const { settings, id } = this.#current;
        $("panel").inert = !id;
        $("panel").classList.toggle("inactive", !id);
        $("saturation").value = settings.saturation;
        $("saturation-value").textContent = settings.saturation.toFixed(2);
        $("size").value = settings.size;
        $("classes").value = settings.scene ?? "";
        show($("for-all"), this.#photos.length > 1);
        show($("download-all"), this.#photos.length > 1);
        this.#paintShares();
        if (live) return;
        this.#paintScene();
        this.#paintStyles();
        this.#paintCandidates();
    }

    #paintScene() {
        const photo = this.#current;
        $("scene").replaceChildren(...photo.scene.map(({ label, probability }) => {
            const bar = clone("bar-template");
            const [fill, name, value] = bar.children;
            fill.style.setProperty("--share", probability);
            name.textContent = spoken(label);
            value.textContent = percent(probability, probability < 0.1 ? 1 : 0);
            bar.dataset.label = label;
            bar.setAttribute("aria-pressed", photo.settings.scene === label);
            bar.addEventListener("click", () => {
                this.#adjust({ scene: photo.settings.scene === label ? null : label });
                $("scene").querySelector(`[data-label="${CSS.escape(label)}"]`)?.focus(); // the bars are new ones
            });
            return bar;
        }));
    }

    #paintStyles() {
        const { styles } = this.#current.settings;
        $("styles").replaceChildren(...styles.map((style) => {
            const item = clone("style-template");
            const parts = ["img", "input", "output", "button"];
            const [image, slider, value, remove] = parts.map((part) => item.querySelector(part));
            image.src = style.source.thumbnail;
            image.addEventListener("error", () => { image.src = "icon.svg"; }, { once: true });
            item.querySelector(".style-name").textContent = style.source.name;
            slider.value = style.weight;
            const paint = () => { value.textContent = percent(style.weight); };
            paint();
            slider.addEventListener("input", () => {
                style.weight = slider.valueAsNumber;
                paint();
                this.#adjust({}, true);
            });
            slider.addEventListener("change", () => {
                clearTimeout(this.#timer);
                this.#preview(this.#current, kPreview);
            });
            remove.setAttribute("aria-label", `Remove the style ${style.source.name}`);
            remove.addEventListener("click", () => this.#adjust({ styles: styles.filter((other) => other !== style) }));
            return item;
        }));
    }

    #paintShares() {
        const { styles } = this.#current.settings;
        const total = styles.reduce((sum, { weight }) => sum + weight, 0);
        $("shares").textContent = styles.length === 0 ? ""
            : total > 1 ? "Together more than 100 %: the styles share it, and nothing is left to the photo itself."
                : `The photo itself keeps ${percent(1 - total)}.`;
    }

    #paintCandidates() {
        const used = this.#current.settings.styles.map((style) => style.source);
        const free = (source) => source !== this.#current && !used.includes(source);
        const sources = [...this.#ready, ...this.#library].filter(free);
        const [...old] = $("candidates").querySelectorAll(".candidate-photo");
        old.forEach((button) => button.remove());
        $("candidates").append(...sources.map((source) => {
            const image = element("img", { src: source.localUrl, alt: "" });
            image.addEventListener("error", () => { image.src = "icon.svg"; }, { once: true });
            const properties = { type: "button", className: "candidate candidate-photo", title: source.name };
            const button = element("button", properties, image);
            button.setAttribute("aria-label", `Use ${source.name} as a style`);
            button.addEventListener("click", () => this.#addStyle(source));
            return button;
        }));
    }
}
