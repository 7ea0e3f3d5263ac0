// The page: asks the API, draws what it answers. Titles are only ever set as text, never as markup.
"use strict";

const $ = (id) => document.getElementById(id);
const state = { todos: [], show: "all", undo: null };

async function ask(method, path, fields) {
  const options = { method, headers: {} };
  if (fields) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(fields);
  }
  const response = await fetch(path, options);
  const payload = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Error(payload.error);
  return payload;
}

// Runs one action of the user: do it, read the list again, say what happened.
async function act(action, done, undo = null) {
  try {
    const result = await action();
    state.todos = (await ask("GET", "/api/todos")).todos;
    state.undo = undo;
    draw();
    say(done);
    return result;
  } catch (error) {
    say(error instanceof TypeError ? "The server cannot be reached. Is it running?" : error.message, true);
    return null;
  }
}

const add = (title) => act(() => ask("POST", "/api/todos", { title }), `Added “${title}”.`);

const rename = (todo, title) => act(() => ask("PATCH", `/api/todos/${todo.id}`, { title }), `Renamed to “${title}”.`);

const tick = (todo, done) =>
  act(() => ask("PATCH", `/api/todos/${todo.id}`, { done }), done ? `Finished “${todo.title}”.` : `Reopened “${todo.title}”.`);

const remove = (todo) => act(() => ask("DELETE", `/api/todos/${todo.id}`), `Deleted “${todo.title}”.`, () => restore(todo));

const restore = (todo) =>
  act(async () => {
    const again = await ask("POST", "/api/todos", { title: todo.title });
    if (todo.done) await ask("PATCH", `/api/todos/${again.id}`, { done: true });
  }, `Brought back “${todo.title}”.`);

function say(text, failed = false) {
  $("notice-text").textContent = text;
  $("notice").classList.toggle("failed", failed);
  $("undo").hidden = failed || state.undo === null;
}

function draw() {
  const finished = state.todos.filter((todo) => todo.done).length;
  const shown = state.todos.filter((todo) => state.show === "all" || todo.done === (state.show === "done"));
  $("summary").textContent = state.todos.length ? `${state.todos.length - finished} open, ${finished} done` : "Nothing here yet";
  $("progress").max = state.todos.length || 1;
  $("progress").value = finished;
  $("list").replaceChildren(...shown.map(item));
  $("list").hidden = shown.length === 0;
  $("empty").hidden = shown.length > 0;
  $("empty").textContent = state.todos.length
    ? `No ${state.show} TODOs.`
    : "A clear day. Add the first thing that needs doing.";
}

function item(todo) {
  const row = $("item").content.firstElementChild.cloneNode(true);
  const box = row.querySelector("input");
  row.dataset.id = todo.id;
  row.classList.toggle("done", todo.done);
  row.querySelector(".title").textContent = todo.title;
  box.checked = todo.done;
  box.addEventListener("change", async () => {
    await tick(todo, box.checked);
    draw();
    focusOn(todo.id, "input");
  });
  const edit = row.querySelector(".edit");
  edit.setAttribute("aria-label", `Edit ${todo.title}`);
  edit.addEventListener("click", () => openEditor(row, todo));
  const bin = row.querySelector(".delete");
  bin.setAttribute("aria-label", `Delete ${todo.title}`);
  bin.addEventListener("click", async () => {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    await remove(todo);
    focusOn(next?.dataset.id, ".delete");
  });
  return row;
}

function openEditor(row, todo) {
  const form = $("editor").content.firstElementChild.cloneNode(true);
  const input = form.querySelector("input");
  const close = () => {
    draw();
    focusOn(todo.id, ".edit");
  };
  input.value = todo.title;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await rename(todo, input.value.trim())) focusOn(todo.id, ".edit");
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
  form.querySelector(".cancel").addEventListener("click", close);
  row.replaceChildren(form);
  input.select();
}

// Keeps the keyboard where the user was; a row that is gone leaves it at the field for the next TODO.
function focusOn(id, part) {
  const row = [...$("list").children].find((child) => child.dataset.id === String(id));
  (row?.querySelector(part) ?? $("title")).focus();
}

$("add").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = $("title");
  if (field.value.trim() && (await add(field.value.trim()))) field.value = "";
  field.focus();
});

$("filter").addEventListener("change", (event) => {
  state.show = event.target.value;
  draw();
});

$("undo").addEventListener("click", () => state.undo?.());

act(async () => null, "");
