// Files as people give them, dropped, pasted or chosen, and as they get them back.
import { $ } from "./dom.js";

// Every file of a folder; a drop gives entries, and their lists come in pieces.
async function filesOfEntry(entry) {
    if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
    const reader = entry.createReader();
    const files = [];
    for (;;) {
        const piece = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (piece.length === 0) return files;
        for (const inner of piece) files.push(...(await filesOfEntry(inner)));
    }
}

const byName = (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }); // page 9 before page 10
const isPhotoName = (name) => /\.(jpe?g|png|p[gpn]m|webp|avif|heic|gif|bmp|tiff?)$/i.test(name);

async function filesOfDrop(transfer) {
    const files = [...transfer.files]; // both are gone after the first await
    const folders = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry?.isDirectory);
    if (folders.length === 0) return files;
    const names = new Set(folders.map((folder) => folder.name));
    const found = (await Promise.all(folders.map(filesOfEntry))).flat();
    return [
        ...files.filter((file) => !names.has(file.name)),
        ...found.filter((file) => isPhotoName(file.name)).sort(byName),
    ];
}

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

// `receive(files, target)` gets what is dropped anywhere, so that no drop ever leaves the page.
export function onDrop(receive) {
    let depth = 0; // enter and leave come for each element under the pointer
    const mark = () => document.body.classList.toggle("dropping", depth > 0);
    addEventListener("dragenter", (event) => { if (hasFiles(event)) { ++depth; mark(); } });
    addEventListener("dragleave", (event) => { if (hasFiles(event)) { depth = Math.max(0, depth - 1); mark(); } });
    addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
    addEventListener("drop", async (event) => {
        depth = 0;
        mark();
        if (!hasFiles(event)) return;
        event.preventDefault();
        const target = event.target;
        const files = await filesOfDrop(event.dataTransfer);
        if (files.length > 0) receive(files, target);
    });
}

export function onPaste(receive) {
    addEventListener("paste", (event) => {
        const files = [...(event.clipboardData?.files ?? [])];
        if (files.length === 0) return;
        event.preventDefault();
        receive(files);
    });
}

export function onChoice(input, receive) {
    $(input).addEventListener("change", (event) => {
        const files = [...event.target.files];
        event.target.value = ""; // so that the same file can be chosen again
        if (files.length > 0) receive(files);
    });
}

// Buttons with data-opens="INPUT" open that file chooser.
export function connectChoosers() {
    for (const button of document.querySelectorAll("[data-opens]"))
        button.addEventListener("click", () => $(button.dataset.opens).click());
}

export function save(blob, name) {
    const url = URL.createObjectURL(blob);
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser may still be reading it
}

export const stem = (name) => name.replace(/\.[^.]*$/, "");
