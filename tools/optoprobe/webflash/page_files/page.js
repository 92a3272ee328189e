// Which language is shown, which board is written, and the broker's name over the cable. No other place is asked.
import { steps } from "./board_settings.js";

const root = document.documentElement;
const byId = (id) => document.getElementById(id);

// --- language -------------------------------------------------------------------------------------------------------

function speak(language) {
  root.lang = language;
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
    button.onclick = () => speak(button.dataset.language);
  }
}
speak((navigator.language || "en").toLowerCase().startsWith("de") ? "de" : "en");

// --- which board ----------------------------------------------------------------------------------------------------

byId("insecure").hidden = window.isSecureContext;
byId("unsupported").hidden = "serial" in navigator || !window.isSecureContext;
byId("send").disabled = !("serial" in navigator);

const install = byId("install");
install.overrides = { checkSameFirmware: () => false }; // always a new one: what is on the board would be lost silently

function choose() {
  const chosen = document.querySelector("input[name=board]:checked");
  byId("go").disabled = !chosen || !("serial" in navigator);
  byId("choose-first").hidden = !!chosen;
  byId("native-usb").hidden = !chosen || chosen.dataset.usb !== "other";
  if (chosen) install.setAttribute("manifest", `firmware/${encodeURIComponent(chosen.value)}.json`);
}
byId("boards").addEventListener("change", choose);
choose(); // a browser keeps what was chosen over a reload

// --- a board's console, and MicroPython's raw REPL on it ------------------------------------------------------------

const ANSWER_MS = 20000, CHUNK = 128, CHUNK_MS = 10, WATCH_MS = 120000, MOST_LINES = 60, MOST_LINE = 400, MOST_TEXT = 65536;
const PROMPT = "raw REPL; CTRL-B to exit\r\n";
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
class Odd extends Error {}

class Line {
  async open(port) {
    this.port = port;
    await port.open({ baudRate: 115200, bufferSize: 8192 });
    this.text = "";
    this.reader = port.readable.getReader();
    this.writer = port.writable.getWriter();
    this.ended = false;
    this.pump = this.listen();
  }
  async listen() {
    const decoder = new TextDecoder();
    try {
      for (;;) {
        const { value, done } = await this.reader.read();
        if (done) break;
        this.text = (this.text + decoder.decode(value, { stream: true })).slice(-MOST_TEXT);
        this.wake?.();
      }
    } catch {}
    this.ended = true;
    this.wake?.();
  }
  async write(text) {
    const data = new TextEncoder().encode(text);
    for (let at = 0; at < data.length; at += CHUNK) { // a board's buffer is small
      await this.writer.write(data.slice(at, at + CHUNK));
      await pause(CHUNK_MS);
    }
  }
  async until(mark) { // what comes before `mark`
    const end = performance.now() + ANSWER_MS;
    for (;;) {
      const at = this.text.indexOf(mark);
      if (at >= 0) {
        const before = this.text.slice(0, at);
        this.text = this.text.slice(at + mark.length);
        return before;
      }
      const left = end - performance.now();
      if (this.ended || left <= 0) throw new Odd(mark);
      await Promise.race([new Promise((wake) => (this.wake = wake)), pause(left)]);
    }
  }
  async interrupt() {
    await this.write("\r\x03\x03");
    await pause(200);
    this.text = "";
    await this.write("\r\x01");
    await this.until(PROMPT);
  }
  async restartSoftly() { // ends what runs beside the program
    await this.write("\x04");
    await this.until("soft reboot\r\n");
    await this.until(PROMPT);
  }
  async run(code) { // what the code prints
    await this.until(">");
    await this.write(code);
    await this.write("\x04");
    await this.until("OK");
    const printed = await this.until("\x04");
    const failed = await this.until("\x04");
    if (failed.trim()) throw new Odd(failed);
    return printed;
  }
  async close() {
    try { await this.reader.cancel(); } catch {}
    await this.pump;
    this.reader.releaseLock();
    try { this.writer.releaseLock(); } catch {}
    try { await this.port.close(); } catch {}
  }
}

// What MicroPython reads as the text `text`: JSON's form of it, with every character in ASCII.
const escaped = (c) => "\\U" + c.codePointAt(0).toString(16).padStart(8, "0");
const literal = (text) => JSON.stringify(text).replace(/[\u007f-\u{10ffff}]/gu, escaped);

function say(what) {
  for (const text of byId("said").children) text.hidden = text.dataset.when !== what;
}

function madePassword() { // of the probe's own Wi-Fi
  const letters = "abcdefghjkmnpqrstuvwxyz23456789"; // 31; a byte above 247 would make some likelier
  const bytes = [...crypto.getRandomValues(new Uint8Array(64))].filter((byte) => byte < 248);
  return bytes.slice(0, 12).map((byte) => letters[byte % 31]).join("");
}

function note(sentence) {
  const shown = document.createElement("li");
  shown.textContent = sentence;
  byId("console").append(shown);
}

async function watch(line) { // the probe's sentences, until it has its broker and a reading, or two minutes are over
  const end = performance.now() + WATCH_MS;
  const awaited = new Set(["connected", "first reading"]);
  while (awaited.size && !line.ended && performance.now() < end && byId("console").children.length < MOST_LINES) {
    let sentence;
    try {
      sentence = (await line.until("\n")).trim();
    } catch {
      continue; // nothing for a while
    }
    if (!sentence.startsWith("optoprobe: ")) continue;
    note(sentence.slice(0, MOST_LINE).replace(/[^ -\uffff]/g, ""));
    awaited.delete(sentence.split(": ")[1]);
  }
}

async function give(changes) {
  let port;
  try {
    port = await navigator.serial.requestPort();
  } catch {
    return; // nobody chose one
  }
  const line = new Line();
  say("busy");
  byId("send").disabled = true;
  byId("console").replaceChildren();
  try {
    await line.open(port);
    try {
      await line.interrupt();
      await line.run(steps.begin);
      await line.restartSoftly();
      await line.run(steps.begin);
      const told = (await line.run(steps.setup_password)).match(/optoprobe-answer ("[^\r\n]+")/);
      changes.setup_password = told ? JSON.parse(told[1]) : madePassword();
      const pieces = steps.write.split("%r"); // the changes, and the keys to take out
      const printed = await line.run(pieces[0] + literal(JSON.stringify(changes)) + pieces[1] + "()" + pieces[2]);
      await line.until(">");
      await line.write("import machine\nmachine.reset()\x04");
      if (!printed.includes("optoprobe-answer true")) {
        say("damaged");
        return;
      }
      say("written");
      note(`note down: the probe's own Wi-Fi, should yours ever be away, has the password ${changes.setup_password}`);
      byId("broker").reset();
      await watch(line);
    } finally {
      await line.close();
    }
  } catch (error) {
    say(error instanceof Odd ? "odd" : "lost");
  } finally {
    byId("send").disabled = false;
  }
}

byId("broker").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = new FormData(event.target);
  const [, host, port] = given.get("mqtt_host").trim().match(/^(.*?)(?::([0-9]{1,5}))?$/s);
  const changes = { mqtt_host: host };
  if (port && !host.includes(":")) changes.mqtt_port = Number(port);
  else if (port) changes.mqtt_host += ":" + port; // an IPv6 address
  for (const key of ["mqtt_user", "mqtt_password"]) if (given.get(key)) changes[key] = given.get(key);
  if (changes.mqtt_host) give(changes);
});
