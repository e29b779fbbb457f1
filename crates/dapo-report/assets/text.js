'use strict';
// The page's data and how texts and numbers are shown. Text of a run reaches the page through textContent alone.

const runs = JSON.parse(document.getElementById('data').textContent).runs;
const byId = id => document.getElementById(id);
const isDark = matchMedia('(prefers-color-scheme: dark)');

// All have a contrast of 4.5 or more on the page and on panels.
const LIGHT = ['#1f5fbf', '#a83c0a', '#1b703a', '#8033b0', '#b0184f', '#596300', '#006a73', '#744616'];
const DARK = ['#7db1ff', '#ffab70', '#6fd592', '#d2a3ff', '#ff8fb0', '#d3d85c', '#5fd6de', '#d9b38c'];
const color = place => (isDark.matches ? DARK : LIGHT)[place % LIGHT.length];

// Characters that control terminals or turn the direction of text.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]/g;
const hex = character => character.charCodeAt(0).toString(16);
const escapeOf = character =>
  character < '\u0100' ? '\\x' + hex(character).padStart(2, '0') : '\\u{' + hex(character) + '}';
const visible = text => String(text).replace(/\r\n/g, '\n').replace(HIDDEN, escapeOf);

function element(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function number(value) {
  if (value === null || value === undefined) return '–';
  if (typeof value !== 'number') return visible(typeof value === 'object' ? JSON.stringify(value) : value);
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value);
  const size = Math.abs(value);
  if (size >= 1e7 || size < 1e-3) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

const runName = run => visible(run.name);

// Runs that differ by their seed alone are one group; each is named after its first run.
const groups = [];
runs.forEach((run, place) => {
  if (run.group === place) groups.push({ runs: [], color: groups.length });
  run.place = place;
  run.owner = run.group === place ? groups[groups.length - 1] : runs[run.group].owner;
  run.owner.runs.push(run);
});
for (const group of groups) {
  const names = group.runs.map(runName);
  group.name = names.length > 1 ? `${names[0]} and ${names.length - 1} more` : names[0];
}

// On narrow screens each row of a stacked table is a list of its cells, which have their heads beside them.
function table(head, rows, caption, stacked) {
  const cells = row => row.map((cell, place) => {
    const isNumber = typeof cell === 'number';
    const properties = { 'data-head': head[place], className: isNumber ? 'number' : '' };
    return element('td', properties, isNumber ? number(cell) : cell ?? '–');
  });
  return element('div', { className: 'scroll', tabIndex: 0, role: 'region', 'aria-label': caption },
    element('table', { className: stacked ? 'data stacked' : 'data' },
      element('thead', null, element('tr', null, ...head.map(name => element('th', { scope: 'col' }, name)))),
      element('tbody', null, ...rows.map(row => element('tr', null, ...cells(row))))));
}
