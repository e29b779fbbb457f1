'use strict';
// A page that its server keeps fresh: completions are asked for, and the page is loaded anew when the runs have changed.

const STATE = 'dapo-report';
const EVERY = 2000;

async function ask(path) {
  const answer = await fetch(path, { cache: 'no-store' });
  const text = await answer.text();
  if (!answer.ok) throw new Error(visible(text));
  return text;
}

const blockText = (run, step) => ask(`/block/${run.place}/${step}`);

// What was shown before the page was loaded anew.
const before = (() => {
  try {
    const state = JSON.parse(sessionStorage.getItem(STATE));
    sessionStorage.removeItem(STATE);
    return state;
  } catch {
    return null;
  }
})();
let view = () => ({});
const viewed = look => { view = look; };

(() => {
  const version = byId('live').dataset.version;
  // A tab says how far the runs are.
  document.title = `step ${Math.max(0, ...runs.map(run => run.steps[run.steps.length - 1] ?? 0))}: ${document.title}`;
  const status = element('span', { role: 'status' }, 'This page follows the runs.');
  const follows = element('input', { type: 'checkbox', id: 'follows', checked: before?.follows ?? true });
  document.querySelector('header').append(
    element('p', { className: 'hint', id: 'watch' }, status, ' ', element('label', { className: 'inline' }, follows, 'Refresh by itself')));

  // Nothing is taken from under a reader's hands.
  const isBusy = () => document.activeElement?.matches('#filters input:not([type=checkbox]), #filters select')
    || !getSelection().isCollapsed;

  function refresh() {
    const open = [...document.querySelectorAll('details')].map(details => details.open);
    try {
      sessionStorage.setItem(STATE, JSON.stringify({ ...view(), open, follows: follows.checked, top: scrollY }));
    } catch { /* Then the page begins anew. */ }
    location.reload();
  }

  async function look() {
    try {
      const now = await ask('/version');
      if (now === version) status.textContent = 'This page follows the runs.';
      else if (!follows.checked) status.textContent = 'The runs have changed.';
      else if (isBusy()) status.textContent = 'The runs have changed; the page refreshes when no field is in use.';
      else return refresh();
    } catch (error) {
      status.textContent = `No longer refreshed: ${error.message}`;
    }
    setTimeout(look, EVERY);
  }
  if (before) document.querySelectorAll('details').forEach((details, at) => { details.open = before.open?.[at] ?? details.open; });
  setTimeout(look, EVERY);
})();
