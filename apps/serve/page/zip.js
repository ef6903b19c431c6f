// A ZIP archive of files that are compressed already: entries are stored (APPNOTE 6.3.10, sections 4.3 and 4.4).

const kCrcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; ++bit) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    return crc;
});

export function crc32(bytes) {
    let crc = ~0;
    for (const byte of bytes) crc = (crc >>> 8) ^ kCrcTable[(crc ^ byte) & 0xff];
    return ~crc >>> 0;
}

// Of names that differ in nothing but case, all but the first get a number before the extension.
export function uniqueNames(names) {
    const taken = new Set();
    return names.map((name) => {
        const dot = name.lastIndexOf(".");
        const [stem, extension] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
        let unique = name;
        for (let number = 2; taken.has(unique.toLowerCase()); ++number) unique = `${stem}-${number}${extension}`;
        taken.add(unique.toLowerCase());
        return unique;
    });
}

// [value, bytes] pairs, little-endian.
function fields(...pairs) {
    const view = new DataView(new ArrayBuffer(pairs.reduce((size, [, bytes]) => size + bytes, 0)));
    let offset = 0;
    for (const [value, bytes] of pairs) {
        if (bytes === 2) view.setUint16(offset, value, true);
        else view.setUint32(offset, value, true);
        offset += bytes;
    }
    return view.buffer;
}

const kVersion = 20, kUtf8 = 1 << 11, kStored = 0;
const kMost = { entries: 0xffff, bytes: 0xffffffff };

// [time, date] as MS-DOS kept them: two-second steps, years from 1980.
const dosTime = (date) => [
    (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1),
    ((Math.max(1980, date.getFullYear()) - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate(),
];

// files: [{name, blob}]. Throws RangeError beyond what the format without ZIP64 can hold.
export async function zip(files, date = new Date()) {
    const [time, day] = dosTime(date);
    const names = uniqueNames(files.map((file) => file.name.replace(/[\\/:*?"<>|\0-\x1f]/g, "_")));
    const entries = [], directory = [];
    let offset = 0;
    for (const [i, { blob }] of files.entries()) {
        const name = new TextEncoder().encode(names[i]);
        const crc = crc32(new Uint8Array(await blob.arrayBuffer()));
        const common = [[kVersion, 2], [kUtf8, 2], [kStored, 2], [time, 2], [day, 2], [crc, 4],
            [blob.size, 4], [blob.size, 4], [name.length, 2], [0, 2]];
        const header = fields([0x04034b50, 4], ...common);
        entries.push(header, name, blob);
        directory.push(fields([0x02014b50, 4], [kVersion, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), name);
        offset += header.byteLength + name.length + blob.size;
    }
    const directorySize = directory.reduce((size, part) => size + part.byteLength, 0);
    if (files.length > kMost.entries || offset + directorySize > kMost.bytes)
        throw new RangeError("more than fits in one ZIP file (4 GiB); choose JPEG or fewer photos");
    const end = fields([0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2],
        [directorySize, 4], [offset, 4], [0, 2]);
    return new Blob([...entries, ...directory, end], { type: "application/zip" });
}
