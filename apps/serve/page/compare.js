// Before and after: under a divider that pointer, touch and arrow keys move, or side by side.
import { $, say } from "./dom.js";

const kSteps = {
    ArrowLeft: -2, ArrowDown: -2, PageDown: -10, Home: -100,
    ArrowRight: 2, ArrowUp: 2, PageUp: 10, End: 100,
};

export class Compare {
    #box = $("compare");
    #handle = $("handle");
    #split = 50; // per cent of the width that show the photo before

    constructor() {
        this.#handle.addEventListener("keydown", (event) => {
            const step = kSteps[event.key];
            if (step === undefined) return;
            event.preventDefault();
            this.move(this.#split + step);
        });
        this.#box.addEventListener("pointerdown", (event) => {
            if (event.button !== 0 || this.#box.dataset.view !== "slider") return;
            event.preventDefault(); // no selection, no dragging of the picture
            this.#box.setPointerCapture(event.pointerId);
            this.#box.classList.add("dragging");
            this.#handle.focus({ preventScroll: true });
            this.#follow(event);
        });
        this.#box.addEventListener("pointermove", (event) => {
            if (this.#box.hasPointerCapture(event.pointerId)) this.#follow(event);
        });
        for (const end of ["lostpointercapture", "pointercancel"])
            this.#box.addEventListener(end, () => this.#box.classList.remove("dragging"));
        this.move(50);
    }
    #follow(event) {
        const box = this.#box.getBoundingClientRect();
        this.move((100 * (event.clientX - box.left)) / box.width);
    }
    move(split) {
        this.#split = Math.min(100, Math.max(0, split));
        this.#box.style.setProperty("--split", `${this.#split}%`);
        const before = Math.round(this.#split);
        this.#handle.setAttribute("aria-valuenow", before);
        this.#handle.setAttribute("aria-valuetext", `${before} % before, ${100 - before} % after`);
    }
    // A sweep of colour from the right, when there is some for the first time.
    #reveal() {
        this.#box.classList.add("dragging"); // at once
        this.#box.style.setProperty("--split", "100%");
        this.#box.getBoundingClientRect(); // that counts as seen
        this.#box.classList.remove("dragging");
        this.move(this.#split);
    }
    set view(view) {
        this.#box.dataset.view = view;
    }
    // The longer side in pixels of this screen.
    get pixels() {
        const box = this.#box.getBoundingClientRect();
        return Math.max(box.width, box.height) * devicePixelRatio;
    }
    // URLs of images, null: there is none yet.
    show({ name, before, after, width, height }) {
        this.#box.style.setProperty("--ratio", width / height);
        this.#box.style.setProperty("--natural", `${width}px`);
        this.#box.dataset.shape = width > height ? "wide" : "tall";
        const first = after !== null && !this.#box.classList.contains("coloured");
        this.#box.classList.toggle("coloured", after !== null);
        if (first) this.#reveal();
        const set = (image, url, alt) => {
            image.alt = alt;
            if (url === null) image.removeAttribute("src");
            else if (image.getAttribute("src") !== url) image.src = url;
        };
        set($("before-image"), before, `${name}, before`);
        set($("after-image"), after, `${name}, in colour`);
    }
    busy(text) {
        say($("busy"), text);
        this.#box.setAttribute("aria-busy", text !== "");
    }
}
