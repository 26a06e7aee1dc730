"use strict";
// What the page of a report does: the timeline, the bars and the plane follow the clip.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const { labels, colours, inks, times, faces } = data;
for (const each of faces) { // which are in thousandths
  for (const name of ["scores", "feelings"]) each[name] = each[name].map((row) => row && row.map((value) => value / 1000));
}
const several = faces.length > 1;
let face = faces[0]; // the one that is looked at; the first is the main one, which was judged
const length = Math.max(data.duration_s, 1e-3);
const percent = (score) => Math.round(100 * score);
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
let position = 0;

function element(parent, tag, text, attributes) {
  const space = parent instanceof SVGElement ? parent.namespaceURI : "http://www.w3.org/1999/xhtml";
  const made = document.createElementNS(space, tag);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

function clock(seconds) {
  const tenths = Math.round(10 * seconds);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  const minutes = Math.floor(tenths / 600);
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

const when = (time) => (length < 60 ? `${time.toFixed(1)} s` : clock(time));

function best(values) {
  return values.reduce((top, value, place) => (value > values[top] ? place : top), 0);
}

function bar(cell, score, colour) {
  cell.replaceChildren();
  const box = element(cell, "div", null, { class: "bar" });
  const fill = element(element(box, "span"), "i");
  fill.style.cssText = `width:${100 * score}%;background:${colour}`;
  element(box, "b", percent(score));
}

// What does not change

function fillHeader() {
  const said = data.fused ? `${labels[best(data.fused)]} ${percent(Math.max(...data.fused))} %` : "Nothing to judge";
  $("answer").textContent = said;
  $("name").textContent = data.name;
  const facts = [`status: ${data.status}`];
  for (const [name, part] of [["face", faces[0].said], ["voice", data.voice]]) {
    facts.push(part ? `${name}: ${labels[best(part)]} ${percent(Math.max(...part))} %, weight ${data.weights[name].toFixed(2)}` : `no ${name}`);
  }
  if (faces[0].valence !== null) facts.push(`valence ${signed(faces[0].valence)}`, `arousal ${signed(faces[0].arousal)}`);
  facts.push(clock(data.duration_s));
  facts.forEach((fact) => element($("facts"), "li", fact));
  labels.forEach((label, place) => {
    const item = element($("key"), "li");
    element(item, "i").style.background = colours[place];
    item.append(label);
  });
  data.notes.forEach((note) => element($("notes"), "li", note));
  $("remarks").hidden = data.notes.length === 0;
  $("maker").textContent = data.maker;
}

// One button for each of several faces: its picture, what it shows, and for how much of the clip it is seen.
function offerFaces() {
  $("faces").hidden = !several;
  faces.forEach((each, place) => {
    const label = element($("faces"), "label");
    const choice = element(label, "input", null, { type: "radio", name: "face" });
    choice.checked = place === 0;
    choice.addEventListener("change", () => look(each));
    const still = each.stills[Math.floor(each.stills.length / 2)];
    if (still) element(label, "img", null, { src: still[2], alt: "" });
    else element(label, "span", null, { class: "nobody" });
    const said = each.said ? `${labels[best(each.said)]} ${percent(Math.max(...each.said))} %` : "nothing to judge";
    const text = element(label, "span");
    element(text, "b", `${each.name} ${said}`);
    element(text, "small", `${place === 0 ? "main face, " : ""}in ${percent(each.frames / times.length)} % of the frames`);
  });
  if (several) $("legend").textContent = "above: the chosen face’s scores; bands: what each face shows; thin strip: speech; ticks: chosen frames";
}

// Everything that is about one face shows this one.
function look(chosen) {
  face = chosen;
  for (const id of ["areas", "picks", "plane", "stills"]) $(id).replaceChildren();
  for (const part of [$("whole").tHead, $("whole").tBodies[0]]) part.replaceChildren();
  document.querySelectorAll(".whose").forEach((each) => { each.textContent = several ? `: ${face.name}` : ""; });
  [...$("bands").children].forEach((band, place) => band.classList.toggle("chosen", faces[place] === face));
  fillWhole();
  drawScores();
  drawPlane();
  fillStills();
  shown = -2;
  render();
}

function fillWhole() {
  const name = several ? `face ${face.name}${face === faces[0] ? "" : ", not in the answer"}` : "face";
  const parts = [["answer", data.fused], [name, face.said], ["voice", data.voice]];
  const head = element($("whole").tHead, "tr");
  element(head, "td");
  parts.forEach(([name, part]) => element(head, "th", part ? name : `no ${name}`, { scope: "col" }));
  labels.forEach((label, place) => {
    const row = element($("whole").tBodies[0], "tr");
    element(row, "th", label, { scope: "row" });
    if (data.fused && best(data.fused) === place) row.className = "best";
    parts.forEach(([, part]) => {
      const cell = element(row, "td");
      if (part) bar(cell, part[place], colours[place]);
      else cell.textContent = "–";
    });
  });
}

const x = (time) => ((1000 * time) / length).toFixed(2);

function drawScores() {
  const { scores, stills } = face;
  // One point a pixel and no more: a clip may have a hundred thousand frames.
  const stride = Math.max(1, Math.floor(times.length / 1500));
  const runs = [];
  let run = [];
  times.forEach((_, frame) => {
    if (scores[frame] === null) {
      if (run.length) runs.push(run);
      run = [];
    } else if (frame % stride === 0 || !run.length) run.push(frame);
  });
  if (run.length) runs.push(run);
  // A frame stands until the next one, the last as long as that before it; none for over a second.
  const ends = times.slice(1).concat(times.length > 1 ? 2 * times[times.length - 1] - times[times.length - 2] : length);
  const after = (frame) => Math.min(ends[frame], times[frame] + 1, length);
  labels.forEach((_, place) => {
    const upTo = (frame, count) => 100 - 100 * scores[frame].slice(0, count).reduce((sum, score) => sum + score, 0);
    const path = runs.map((frames) => {
      const last = frames[frames.length - 1];
      const line = (count) => frames.map((frame) => [x(times[frame]), upTo(frame, count).toFixed(2)])
        .concat([[x(after(last)), upTo(last, count).toFixed(2)]]);
      return `M${line(place + 1).concat(line(place).reverse()).map((point) => point.join(" ")).join("L")}Z`;
    });
    if (path.length) element($("areas"), "path", null, { d: path.join(""), fill: colours[place] });
  });
  stills.forEach(([time]) => {
    element($("picks"), "rect", null, { x: x(time), width: 2.5, height: 10, fill: "currentColor" });
  });
}

function drawBands() {
  for (const each of faces) {
    const band = element($("bands"), "div", null, { class: "band" });
    each.stretches.forEach(([start, end, place]) => {
      const share = (100 * (end - start)) / length;
      const run = element(band, "span", null, { title: labels[place] });
      element(run, "b", labels[place]);
      run.style.cssText = `left:${(100 * start) / length}%;width:${share}%;background:${colours[place]};color:${inks[place]}`;
    });
    if (several) element(band, "b", each.name);
  }
  data.heard.forEach(([start, end]) => {
    element($("speech"), "rect", null, { x: x(start), width: x(end - start), height: 10, fill: "#8a94a3" });
  });
  $("speech").style.display = data.heard.length ? "" : "none";
  $("timeline").setAttribute("aria-valuemax", data.duration_s.toFixed(2));
}

function drawPlane() {
  const plane = $("plane");
  const lines = { stroke: "currentColor", "stroke-opacity": 0.25, fill: "none" };
  element(plane, "rect", null, { x: -100, y: -100, width: 200, height: 200, ...lines });
  element(plane, "path", null, { d: "M-100 0H100M0 -100V100", ...lines });
  for (const [text, x, y, anchor] of [["unpleasant", -100, 116, "start"], ["pleasant", 100, 116, "end"], ["excited", 0, -106, "middle"], ["calm", 0, 116, "middle"]]) {
    element(plane, "text", text, { x, y, "text-anchor": anchor });
  }
  const seen = face.feelings.filter((pair) => pair !== null);
  const stride = Math.max(1, Math.floor(seen.length / 1500));
  const path = seen.filter((_, place) => place % stride === 0).map(([v, a]) => `${(100 * v).toFixed(1)} ${(-100 * a).toFixed(1)}`);
  if (path.length) element(plane, "path", null, { d: `M${path.join("L")}`, ...lines, "stroke-opacity": 0.5, "stroke-width": 1.6, "stroke-linejoin": "round" });
  if (face.valence !== null) {
    const clip = element(plane, "circle", null, { cx: 100 * face.valence, cy: -100 * face.arousal, r: 6, fill: "none", stroke: "currentColor", "stroke-width": 2 });
    element(clip, "title", "the whole clip");
  } else element(plane, "text", "no face was seen", { x: 0, y: -20, "text-anchor": "middle" });
  element(plane, "circle", null, { id: "dot", r: 7, stroke: "var(--card)", "stroke-width": 2 });
}

function fillStills() {
  face.stills.forEach(([time, place, picture]) => {
    const button = element($("stills"), "button", null, { type: "button", "aria-label": `Jump to ${when(time)}, ${labels[place]}` });
    element(button, "img", null, { src: picture, alt: "" }).style.borderColor = colours[place];
    element(button, "span", `${when(time)} ${labels[place]}`);
    button.addEventListener("click", () => seek(time));
  });
  $("chosen").hidden = face.stills.length === 0;
}

// What follows the clip

function frameAt(time) {
  let low = 0, high = times.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (times[middle] <= time + 1e-4) low = middle;
    else high = middle - 1;
  }
  return low;
}

const moment = labels.map((label) => {
  const row = element($("moment").tBodies[0], "tr");
  element(row, "th", label, { scope: "row" });
  return [row, element(row, "td")];
});
let shown = -2;

function render() {
  $("head").style.left = `${(100 * Math.min(position, length)) / length}%`;
  $("clock").textContent = `${clock(position)} of ${clock(data.duration_s)}`;
  const frame = times.length && position <= times[times.length - 1] + 1 ? frameAt(position) : -1;
  const now = frame < 0 ? null : face.scores[frame];
  const top = now && best(now);
  const text = now ? `${labels[top]} ${percent(now[top])} %` : "no face";
  $("timeline").setAttribute("aria-valuenow", position.toFixed(2));
  $("timeline").setAttribute("aria-valuetext", `${position.toFixed(1)} seconds, ${text}`);
  if (frame === shown) return;
  shown = frame;
  moment.forEach(([row, cell], place) => {
    row.className = place === top ? "best" : "";
    bar(cell, now ? now[place] : 0, colours[place]);
  });
  $("now").replaceChildren();
  element($("now"), "i").style.background = now ? colours[top] : "var(--track)";
  $("now").append(text);
  const pair = frame < 0 ? null : face.feelings[frame];
  $("dot").style.display = pair ? "" : "none";
  if (pair) {
    $("dot").setAttribute("cx", 100 * pair[0]);
    $("dot").setAttribute("cy", -100 * pair[1]);
    $("dot").setAttribute("fill", colours[top]);
  }
  const step = times.length > 1 ? times[1] - times[0] : 0.04;
  [...$("stills").children].forEach((button, place) => {
    button.classList.toggle("here", Math.abs(face.stills[place][0] - position) < step);
  });
}

const player = data.media ? element($("stage"), data.media.startsWith("audio") ? "audio" : "video", null, { controls: "", playsinline: "", preload: "auto", "aria-label": "The clip" }) : null;
let playable = false;

function seek(time) {
  position = Math.min(Math.max(time, 0), data.duration_s);
  if (playable) player.currentTime = position;
  render();
}

function follow() {
  position = player.currentTime;
  render();
  if (!player.paused) requestAnimationFrame(follow);
}

// The clip out of the page itself, as an address.
function embedded() {
  const text = atob($("media").textContent);
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
  $("media").remove();
  return URL.createObjectURL(new Blob([bytes], { type: data.media }));
}

function openPlayer() {
  player.addEventListener("loadedmetadata", () => {
    playable = true;
    if (position) player.currentTime = position;
  });
  player.addEventListener("error", () => {
    playable = false;
    $("unplayable").hidden = false;
    player.hidden = true;
  });
  player.addEventListener("play", follow);
  player.addEventListener("seeked", follow);
  player.addEventListener("timeupdate", follow);
  player.src = data.address || embedded();
}

function toggle() {
  if (!playable) return;
  if (player.paused) player.play();
  else player.pause();
}

$("timeline").addEventListener("keydown", (event) => {
  const frame = times.length ? frameAt(position) : 0;
  const near = (step) => (times.length ? times[Math.min(Math.max(frame + step, 0), times.length - 1)] : position + step / 25);
  const by = (sign) => (event.shiftKey ? position + sign : near(sign));
  const moves = {
    ArrowLeft: () => by(-1), ArrowDown: () => by(-1), ArrowRight: () => by(1), ArrowUp: () => by(1),
    PageDown: () => position - 5, PageUp: () => position + 5, Home: () => 0, End: () => data.duration_s,
  };
  if (event.key === " ") toggle();
  else if (moves[event.key]) seek(moves[event.key]());
  else return;
  event.preventDefault();
});

function seekTo(event) {
  const box = $("timeline").getBoundingClientRect();
  seek((data.duration_s * (event.clientX - box.left)) / box.width);
}

$("timeline").addEventListener("pointerdown", (event) => {
  $("timeline").setPointerCapture(event.pointerId);
  seekTo(event);
});
$("timeline").addEventListener("pointermove", (event) => {
  if ($("timeline").hasPointerCapture(event.pointerId)) seekTo(event);
});

fillHeader();
offerFaces();
drawBands();
look(face);
if (player) openPlayer();
