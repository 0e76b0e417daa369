"use strict";

const SIDE = 280; // of the drawing, in its own units
const PEN = 18; // width of strokes
const STEP = 7; // by which an arrow key moves the pen
const DELAY = 250; // milliseconds after a stroke before the drawing is sent
const SHOWN = 10; // classes
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const find = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(2)}\u00a0%`;

let model; // what the server says about it
let strokes = []; // lists of points [x, y]
let stroke = null; // the one that is being drawn
let file = null; // the chosen picture, instead of a drawing
let timer;
let request = new AbortController();

function trace(context, ink) {
  context.strokeStyle = context.fillStyle = ink;
  context.lineWidth = PEN;
  context.lineCap = context.lineJoin = "round";
  for (const points of strokes) {
    context.beginPath();
    context.moveTo(...points[0]);
    for (const point of points) context.lineTo(...point);
    context.stroke();
  }
}

// Dark on white, whatever the colours of the page are.
function drawing() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, SIDE, SIDE);
  trace(context, "black");
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

const pen = { at: [SIDE / 2, SIDE / 2], shown: false, down: false, held: new Set() };

function redraw() {
  const canvas = find("canvas"), context = canvas.getContext("2d"), style = getComputedStyle(canvas);
  context.setTransform(canvas.width / SIDE, 0, 0, canvas.height / SIDE, 0, 0);
  context.clearRect(0, 0, SIDE, SIDE);
  trace(context, style.color);
  if (pen.shown) {
    context.strokeStyle = style.getPropertyValue("--accent");
    context.lineWidth = pen.down ? 5 : 2;
    context.beginPath();
    context.arc(...pen.at, PEN / 2 + 2, 0, 2 * Math.PI);
    context.stroke();
  }
  find("undo").disabled = find("clear").disabled = strokes.length === 0;
}

function setBusy(busy) {
  find("result").setAttribute("aria-busy", busy);
}

function changed() {
  redraw();
  setBusy(true);
  if (strokes.length) {
    file = null;
    find("file").value = "";
  }
  clearTimeout(timer);
  timer = setTimeout(classify, DELAY);
}

function begin(point) {
  stroke = [point];
  strokes.push(stroke);
  setBusy(true);
  redraw();
}

function undo() {
  strokes.pop();
  stroke = null;
  pen.down = false;
  changed();
}

function clear() {
  strokes = [];
  stroke = null;
  pen.down = false;
  changed();
}

function listenToPointer(canvas) {
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    canvas.setPointerCapture(event.pointerId);
    clearTimeout(timer);
    pen.shown = pen.down = false;
    begin(place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!stroke || pen.down || !event.isPrimary) return;
    const events = event.getCoalescedEvents?.() ?? [];
    stroke.push(...(events.length ? events : [event]).map(place));
    redraw();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => {
      if (!stroke || pen.down) return;
      stroke = null;
      changed();
    });
  }
}

function lift() {
  pen.down = false;
  stroke = null;
}

function press(key) {
  if (key === " ") {
    if (pen.down) lift();
    else {
      pen.down = true;
      begin([...pen.at]);
    }
    changed();
  } else if (key === "Backspace") undo();
  else if (key === "Escape") clear();
  else return false;
  return true;
}

function move() {
  const sum = [0, 1].map((axis) => [...pen.held].reduce((total, key) => total + ARROWS[key][axis], 0));
  pen.at = pen.at.map((value, axis) => Math.min(Math.max(value + STEP * sum[axis], 0), SIDE));
  if (pen.down) {
    stroke.push([...pen.at]);
    changed();
  } else redraw();
}

function listenToKeys(canvas) {
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in ARROWS) {
      pen.shown = true;
      pen.held.add(event.key); // two at once move the pen diagonally
      move();
    } else {
      if (event.key === " ") pen.shown = true;
      if (!press(event.key)) return;
    }
    event.preventDefault();
  });
  canvas.addEventListener("keyup", (event) => pen.held.delete(event.key));
  canvas.addEventListener("blur", () => {
    pen.held.clear();
    pen.shown = false;
    lift();
    redraw();
  });
}

async function ask(path, options) {
  const response = await fetch(path, options);
  const content = await response.json();
  if (!response.ok) throw new Error(content.message);
  return content;
}

async function classify() {
  setBusy(true);
  request.abort(); // the latest picture counts
  request = new AbortController();
  const { signal } = request;
  if (!file && !strokes.length) {
    show(null);
    return;
  }
  const body = file ?? (await drawing());
  const ensemble = document.querySelector("[name=ensemble]:checked").value;
  try {
    show(await ask(`classify?ensemble=${ensemble}`, { method: "POST", body, signal }));
  } catch (error) {
    if (error.name === "AbortError") return;
    show(null, error instanceof TypeError ? "The server does not answer." : `Not classified: ${error.message}.`);
  }
}

function show(result, problem = "") {
  const answer = find("answer"), seen = find("seen");
  answer.replaceChildren();
  answer.hidden = Boolean(problem);
  find("problem").hidden = !problem;
  find("problem").textContent = problem;
  seen.hidden = !result;
  const size = `${model.shape[1]} × ${model.shape[0]} pixels`;
  find("caption").textContent = result ? `The picture as the model saw it: ${size}` : "";
  if (result) {
    const name = document.createElement("strong");
    name.textContent = result.class;
    answer.append(name, `probability ${percent(Math.max(...result.probabilities))}`);
    seen.src = `data:image/png;base64,${result.image}`;
    seen.alt = `The picture in ${size}`;
  } else if (!problem) {
    answer.textContent = model.drawing ? "Draw a digit, or choose a picture." : "Choose a picture.";
  }
  showBars(result?.probabilities);
  setBusy(false);
}

function showBars(probabilities) {
  let labels = [...model.classes.keys()];
  if (probabilities && labels.length > SHOWN) labels.sort((a, b) => probabilities[b] - probabilities[a]);
  labels = labels.slice(0, SHOWN);
  const most = probabilities && Math.max(...probabilities);
  find("bars").replaceChildren(
    ...labels.map((label) => {
      const row = document.createElement("li"), track = part("track", ""), bar = part("bar", "");
      if (probabilities) {
        row.classList.toggle("first", probabilities[label] === most);
        bar.style.width = `${100 * probabilities[label]}%`;
      }
      track.append(bar);
      row.append(part("name", model.classes[label]), track, part("value", probabilities ? percent(probabilities[label]) : "–"));
      return row;
    }),
  );
}

function part(name, text) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}

function describe() {
  document.title = model.drawing ? "Draw a digit" : "Classify a picture";
  document.querySelector("h1").textContent = document.title;
  find("model").textContent =
    `${model.name} classifies ${percent(model.accuracy)} of ${model.images.toLocaleString("en")} test images ` +
    `correctly. Chosen by this rule: ${model.rule}.`;
  find("single").textContent = `this model (${percent(model.accuracy)})`;
  find("several").textContent = `the ensemble of ${model.members} seeds (${percent(model.ensemble_accuracy)})`;
  find("models").hidden = model.members < 2;
  find("drawing").hidden = find("keys").hidden = !model.drawing;
}

async function start() {
  try {
    model = await ask("model");
  } catch {
    find("model").textContent = "The server does not answer.";
    return;
  }
  describe();
  show(null);
  redraw();
  listenToPointer(find("canvas"));
  listenToKeys(find("canvas"));
  find("undo").addEventListener("click", undo);
  find("clear").addEventListener("click", clear);
  find("file").addEventListener("change", (event) => {
    if (!event.target.files.length) return;
    [file] = event.target.files;
    strokes = [];
    redraw();
    classify();
  });
  for (const choice of document.getElementsByName("ensemble")) choice.addEventListener("change", classify);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

start();
