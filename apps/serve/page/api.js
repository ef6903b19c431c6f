// What the server can be asked. Every failure is a ServerError with one line that a person can act on.

const kHeaders = { "X-Lumachrome": "1" }; // other sites cannot set it
const kPatience = 60; // times to come again while the server is busy

export class ServerError extends Error {
    constructor(message, status) {
        super(message);
        this.status = status;
    }
}

const pause = (seconds, signal) =>
    new Promise((resolve, reject) => {
        const timer = setTimeout(resolve, 1000 * seconds);
        signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); });
    });

async function errorText(response) {
    const body = await response.json().catch(() => null);
    const text = body?.error ?? `lumachrome answered with status ${response.status}`;
    return text.replace(/^the photo: /, ""); // the page says which
}

// `send` makes one attempt and gives a Response.
async function request(send, signal) {
    for (let attempt = 1; ; ++attempt) {
        signal?.throwIfAborted();
        const response = await send().catch((error) => {
            if (error.name === "AbortError") throw error;
            throw new ServerError("lumachrome does not answer. Is it still running?", 0);
        });
        if (response.ok) return response;
        if (response.status !== 503 || attempt === kPatience)
            throw new ServerError(await errorText(response), response.status);
        await pause(Number(response.headers.get("Retry-After")) || 1, signal);
    }
}

// fetch() that tells how much has been sent, which fetch() itself does not.
function post(path, body, progress) {
    return new Promise((resolve, reject) => {
        const transfer = new XMLHttpRequest();
        transfer.open("POST", path);
        for (const [name, value] of Object.entries(kHeaders)) transfer.setRequestHeader(name, value);
        transfer.upload.onprogress = (event) => progress?.(event.loaded / event.total);
        transfer.onload = () =>
            resolve(new Response(transfer.responseText, {
                status: transfer.status,
                headers: { "Retry-After": transfer.getResponseHeader("Retry-After") ?? "1" },
            }));
        transfer.onerror = () => reject(new TypeError("no answer"));
        transfer.send(body);
    });
}

const photo = (id) => `/api/v1/photos/${id}`;

export const model = async () => (await request(() => fetch("/api/v1/model"))).json();

// `path` is photos or styles; gives what the server says of the file, with its id.
export const upload = async (path, file, progress) =>
    (await request(() => post(`/api/v1/${path}`, file, progress))).json();

export async function colorize(id, body, signal) {
    const headers = { ...kHeaders, "Content-Type": "application/json" };
    const response = await request(
        () => fetch(`${photo(id)}/colorize`, { method: "POST", headers, body: JSON.stringify(body), signal }), signal);
    const number = (name) => Number(response.headers.get(`X-Network-${name}`));
    return {
        blob: await response.blob(),
        network: { width: number("Width"), height: number("Height"), milliseconds: number("Milliseconds") },
    };
}

export const original = async (id, max, variant) =>
    (await request(() => fetch(`${photo(id)}/original?max=${max}&variant=${variant}`))).blob();

export const styleFile = async (id) => (await request(() => fetch(`${photo(id)}/style`))).blob();

// Nobody waits for it: what is not forgotten now is in half an hour.
export const forget = (id) => fetch(photo(id), { method: "DELETE", headers: kHeaders }).catch(() => {});
