// Photos and styles: a file here, and an id by which the server knows it for a while.
import * as api from "./api.js";
import { stem } from "./files.js";

// At most `count` of the tasks given to it run at once.
export function limit(count) {
    const waiting = [];
    let running = 0;
    return async (task) => {
        if (running === count) await new Promise((resolve) => waiting.push(resolve));
        else ++running;
        try {
            return await task();
        } finally {
            if (waiting.length > 0) waiting.shift()();
            else --running;
        }
    };
}
const uploading = limit(2);

// The server reads JPEG, PNG and PNM; other formats that this browser knows go there as PNG.
async function asPng(file) {
    const bitmap = await createImageBitmap(file);
    const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
const isForeign = (file) => file.type.startsWith("image/") && !/jpe?g|png|p.map/.test(file.type);

async function send(path, file, limits, progress) {
    if (file.size > limits.body_bytes)
        throw new api.ServerError(`larger than ${Math.floor(limits.body_bytes / 2 ** 20)} MiB; save a smaller copy of it`, 413);
    try {
        return await api.upload(path, file, progress);
    } catch (error) {
        if (![415, 422].includes(error.status) || !isForeign(file)) throw error;
        const png = await asPng(file).catch(() => { throw error; });
        return api.upload(path, png, progress);
    }
}

// Something the server holds; when it has forgotten, it is sent again.
export class Source {
    #held = null;

    constructor(file, path, limits) {
        this.file = file;
        this.path = path;
        this.limits = limits;
        this.name = file.name || "pasted photo.png";
        this.localUrl = URL.createObjectURL(file);
        this.scene = [];
    }
    hold(progress) {
        this.#held ??= uploading(() => send(this.path, this.file, this.limits, progress)).then(
            (answer) => Object.assign(this, answer),
            (error) => { this.#held = null; throw error; });
        return this.#held;
    }
    forget() {
        this.#held = null;
    }
    drop() {
        if (this.id) api.forget(this.id);
        URL.revokeObjectURL(this.localUrl);
    }
    get thumbnail() {
        return this.localUrl;
    }
}

// `use()` with all sources held, a second time if the server has forgotten one meanwhile.
async function withSources(sources, use) {
    for (let again = false; ; again = true) {
        await Promise.all(sources.map((source) => source.hold()));
        try {
            return await use();
        } catch (error) {
            if (error.status !== 404 || again) throw error;
            sources.forEach((source) => source.forget());
        }
    }
}

export const defaultSettings = () => ({ size: "auto", saturation: 1, scene: null, styles: [] });

export const copySettings = (settings) => ({ ...settings, styles: settings.styles.map((style) => ({ ...style })) });

export class Photo extends Source {
    #request = null;

    constructor(file, limits) {
        super(file, "photos", limits);
        this.settings = defaultSettings();
        this.before = null; // {url, max, variant} of the photo itself, from the server
        this.result = null; // {url, network, max} of the newest preview
        this.pending = 0; // longer side of the preview that is on its way
        this.error = "";
    }
    get thumbnail() {
        return this.result?.url ?? this.localUrl;
    }
    get resultName() {
        return `${stem(this.name)}-color`;
    }
    #body(options) {
        const { size, saturation, scene, styles } = this.settings;
        return {
            size: /^\d+$/.test(size) ? Number(size) : size,
            saturation,
            class: scene,
            styles: styles.map(({ source, weight }) => ({ id: source.id, weight })),
            ...options,
        };
    }
    // options: max, format, quality, variant.
    colorize(options, signal) {
        const sources = [this, ...this.settings.styles.map((style) => style.source)];
        return withSources(sources, () => api.colorize(this.id, this.#body(options), signal));
    }
    // The newest preview counts: one that is still on its way is given up.
    async refresh(max) {
        this.#request?.abort();
        const { signal } = (this.#request = new AbortController());
        this.pending = max;
        const { blob, network } = await this.colorize({ max }, signal).finally(() => {
            if (!signal.aborted) this.pending = 0;
        });
        signal.throwIfAborted();
        if (this.result) URL.revokeObjectURL(this.result.url);
        this.result = { url: URL.createObjectURL(blob), network, max };
    }
    original(max, variant) {
        return withSources([this], () => api.original(this.id, max, variant));
    }
    // Sees to it that `before` is the photo itself, so large and in that variant.
    async loadBefore(max, variant) {
        if (this.before?.max === max && this.before.variant === variant) return;
        const url = URL.createObjectURL(await this.original(max, variant));
        if (this.before) URL.revokeObjectURL(this.before.url);
        this.before = { url, max, variant };
    }
    styleFile() {
        return withSources([this], () => api.styleFile(this.id));
    }
    drop() {
        this.#request?.abort();
        for (const image of [this.before, this.result]) if (image) URL.revokeObjectURL(image.url);
        super.drop();
    }
}
