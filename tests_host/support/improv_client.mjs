// npm's improv-wifi-serial-sdk, as it is published, on a serial port: node improv_client.mjs SDK PORT STEP...
// A step is "initialize", "scan", "state" or "provision:NAME:PASSWORD"; each prints one line of JSON. No browser: web
// streams stand around the port. Node asks for what browsers' bundlers see to: suffixes, and what is a module.
import fs from "node:fs";
import tty from "node:tty";
import { register } from "node:module";
import { Readable } from "node:stream";
import { pathToFileURL } from "node:url";

const hooks = `
export async function resolve(name, context, next) {
  return next(name.startsWith("./") && !name.endsWith(".js") ? name + ".js" : name, context);
}
export async function load(url, context, next) {
  return next(url, url.includes("improv-wifi-serial-sdk") ? { ...context, format: "module" } : context);
}`;
register("data:text/javascript," + encodeURIComponent(hooks));
globalThis.CustomEvent ??= class extends Event {
  constructor(name, options) {
    super(name);
    this.detail = options.detail;
  }
};

const LONG_MS = 100000; // a busy computer
const [sdk, path, ...steps] = process.argv.slice(2);
const { ImprovSerial } = await import(pathToFileURL(`${sdk}/dist/serial.js`));
const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_NOCTTY);
const line = new tty.ReadStream(fd);
line.setRawMode(true);
const port = {
  readable: Readable.toWeb(line),
  writable: new WritableStream({ write: (chunk) => void fs.writeSync(fd, chunk) }), // before any answer can come
};
const errors = [];
const logger = { log() {}, debug() {}, error: (...words) => errors.push(words.join(" ")) };
const client = new ImprovSerial(port, logger);
for (const step of steps) {
  const [what, name, password] = step.split(":");
  const told = { step: what };
  try {
    if (what === "initialize") told.info = await client.initialize(LONG_MS);
    if (what === "scan") told.networks = await client.scan(LONG_MS);
    if (what === "state") await client.requestCurrentState(LONG_MS);
    if (what === "provision") await client.provision(name, password, LONG_MS);
  } catch (error) {
    told.error = String(error);
  }
  console.log(JSON.stringify({ ...told, state: client.state, nextUrl: client.nextUrl ?? null, errors }));
}
process.exit(0);
