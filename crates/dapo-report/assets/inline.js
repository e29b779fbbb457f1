'use strict';
// Completions inside the page. Blocks stand at its end: charts are drawn and texts are shown before all have arrived.

async function blockText(run, step) {
  const id = `block-${run.place}-${step}`;
  for (;;) {
    const found = byId(id);
    // A block is whole as soon as something follows it.
    if (found && (found.nextElementSibling || document.readyState !== 'loading')) return found.textContent;
    if (!found && document.readyState !== 'loading') throw new Error('the page lacks them; it may be cut off');
    await new Promise(next => setTimeout(next, 20));
  }
}

// What was shown before the page was loaded anew.
const before = null;
const viewed = () => {};
