// Tells somebody that a run has ended, by a notification of the browser: only on the page of a run, only once asked. The tab
// goes on listening in the background for as long as it waits for that.

const KEY = "dispatch-tell"; // the run that this tab waits for, kept over loads of the page
let told = ""; // what came of asking
const byId = (id) => document.getElementById(id);
const here = () => document.querySelector("[data-run][data-ended]");

export function tellOfEnds() {
  document.addEventListener("click", (event) => event.target.closest("#tell") && press());
  document.addEventListener("dispatch:shown", show);
  show();
}

// Returns whether this page waits for the end of its run, so that it must hear of it in the background too.
export const isWatching = () => Boolean(sessionStorage.getItem(KEY)) && sessionStorage.getItem(KEY) === here()?.dataset.run;

async function press() {
  if (isWatching()) {
    sessionStorage.removeItem(KEY);
    say("");
  } else if (await isAllowed()) {
    sessionStorage.setItem(KEY, here().dataset.run);
    say("You will be told when it ends, also while this tab is in the background. Leave it open.");
  }
  show();
}

async function isAllowed() {
  if (!("Notification" in window) || !isSecureContext) {
    say("Notifications need a browser that has them, and https or an address of this computer.");
    return false;
  }
  const answer = Notification.permission === "default" ? await Notification.requestPermission() : Notification.permission;
  if (answer !== "granted") say("Your browser does not allow notifications of this lab; its settings for this page say so.");
  return answer === "granted";
}

function say(text) {
  told = text;
  const said = byId("tell-said");
  if (!said) return;
  said.hidden = !told;
  if (said.textContent !== told) said.textContent = told; // it is read out once
}

function show() {
  const run = here();
  if (isWatching() && run.dataset.ended) {
    sessionStorage.removeItem(KEY);
    tell(run);
  }
  say(told); // the page from the lab does not say it
  const button = byId("tell");
  if (!button) return;
  const [pressed, text] = [String(isWatching()), isWatching() ? "Will tell you when it ends" : "Tell me when it ends"];
  button.hidden = false;
  if (button.getAttribute("aria-pressed") !== pressed) button.setAttribute("aria-pressed", pressed);
  if (button.textContent !== text) button.textContent = text;
}

function tell(run) {
  const name = run.querySelector("h1").firstChild.textContent.trim();
  try {
    const made = new Notification(`${name}: ${run.dataset.ended}`, { body: document.querySelector(".lead").textContent, tag: run.dataset.run });
    made.onclick = () => window.focus();
  } catch {
    // a browser on a phone has notifications for pages of other kinds alone: the title of the tab says it
  }
}
