'use strict';
// The completions: blocks are inflated when their step is shown.

(() => {
  const PAGE = 32;
  const KNOWN = new Set(['step', 'prompt_id', 'draw', 'sample', 'prompt', 'completion', 'tokens', 'finish_reason', 'rewards',
    'reward', 'correct', 'advantage', 'in_loss', 'fate', 'age', 'answer', 'alternatives', 'extracted', 'rule',
    'token_texts', 'token_logprobs']);
  // Tokens of a completion that are shown one by one at most.
  const MOST_TOKENS = 5000;
  const form = byId('filters');
  let run = runs[0], block = null, lines = [], limit = PAGE, target = null, turn = 0;

  async function inflate(step) {
    const text = (await blockText(run, step)).trim();
    if (!text) return [];
    const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
    return JSON.parse(await new Response(stream).text());
  }

  const option = (value, text) => element('option', { value: String(value) }, text);

  function fill() {
    byId('step').replaceChildren(...run.blocks.map(block => option(block.step, String(block.step))));
  }

  // The choices of a filter are those of the step; what was chosen stays.
  function choices(id, key) {
    const select = byId(id), before = select.value;
    const values = new Set(lines.map(([, line]) => line[key]).filter(value => typeof value === 'string'));
    if (before) values.add(before);
    select.replaceChildren(option('', 'any'), ...[...values].sort().map(value => option(value, visible(value))));
    select.value = before;
  }

  function filter() {
    const value = id => byId(id).value;
    const tokens = byId('with-tokens').checked;
    const [correct, fate, finish, words] = [value('correct'), value('fate'), value('finish'), value('search').toLowerCase()];
    const bound = (id, none) => value(id) === '' ? none : Number(value(id));
    const [least, most] = [bound('least', null), bound('most', null)];
    return ([, line]) => {
      if (tokens && !hasTokens(line)) return false;
      if (correct && String(line.correct ?? null) !== correct) return false;
      if (fate && line.fate !== fate) return false;
      if (finish && line.finish_reason !== finish) return false;
      // A completion without a reward is in no range.
      if ((least !== null || most !== null) && typeof line.reward !== 'number') return false;
      if (least !== null && line.reward < least || most !== null && line.reward > most) return false;
      return !words || [line.prompt, line.completion, line.answer, line.extracted].some(text => String(text ?? '').toLowerCase().includes(words));
    };
  }

  // Text with what was searched for marked.
  function marked(text) {
    const whole = visible(text), words = visible(byId('search').value).toLowerCase(), lower = whole.toLowerCase();
    const pre = element('pre', { tabIndex: whole.length > 1500 ? 0 : -1, dir: 'auto' });
    if (!words || lower.length !== whole.length) {
      pre.textContent = whole;
      return pre;
    }
    let from = 0;
    for (let at = lower.indexOf(words), marks = 0; at >= 0 && marks < 500; at = lower.indexOf(words, from), marks++) {
      pre.append(whole.slice(from, at), element('mark', null, whole.slice(at, at + words.length)));
      from = at + words.length;
    }
    pre.append(whole.slice(from));
    return pre;
  }

  // The level of a token's log-prob: 0 for a probability of at least 0.9, 4 for one below 0.01.
  const level = logprob => [Math.log(0.9), Math.log(0.5), Math.log(0.1), Math.log(0.01)].filter(bound => logprob < bound).length;

  const hasTokens = line => Array.isArray(line.token_texts) && Array.isArray(line.token_logprobs);

  // A completion whose tokens are coloured by their log-probs.
  function coloured(line) {
    const pre = element('pre', { tabIndex: 0, dir: 'auto', className: 'tokens' });
    const shown = Math.min(line.token_texts.length, MOST_TOKENS);
    for (let at = 0; at < shown; at++) {
      const text = visible(line.token_texts[at]), logprob = line.token_logprobs[at];
      if (typeof logprob !== 'number') pre.append(text);
      else {
        pre.append(element('span', { className: 'level-' + level(logprob),
          title: `log-prob ${number(logprob)}, probability ${number(Math.exp(logprob))}` }, text));
      }
    }
    pre.append(...line.token_texts.slice(shown).map(visible));
    return pre;
  }

  const textOf = line => hasTokens(line) && byId('colour').checked && !byId('search').value
    ? coloured(line) : marked(line.completion ?? '');

  function address(n) {
    const of = runs.length > 1 ? `run=${run.place + 1}&` : '';
    return `#${of}step=${block.step}${n ? '&completion=' + n : ''}`;
  }

  // The gold answer, what was extracted, and by which rule; lines of older versions have none of these.
  function judged(line) {
    const rows = [];
    if ('answer' in line) {
      const others = Array.isArray(line.alternatives) ? line.alternatives : [];
      rows.push(['Gold', [line.answer, ...others].filter(answer => answer !== null).map(String).join(' or ') || '–']);
    }
    if ('extracted' in line) {
      const rule = line.rule === null || line.rule === undefined ? '' : ` (by ${line.rule})`;
      rows.push(['Extracted', line.extracted === null ? '–' : String(line.extracted) + rule]);
    }
    return rows.flatMap(([name, text]) => [element('div', { className: 'part' }, name), marked(text)]);
  }

  function card([n, line]) {
    const verdict = line.correct === true ? ['correct', 'good'] : line.correct === false ? ['incorrect', 'bad'] : ['not judged', 'dim'];
    const word = (text, className) => element('span', { className: className || '' }, text);
    const head = element('h3', null, element('a', { href: address(n) }, '#' + n), word(...verdict),
      word('reward ' + number(line.reward)), word(`${number(line.tokens)} tokens, ended by ${number(line.finish_reason)}`),
      word(number(line.fate).replaceAll('_', ' ')));
    const object = value => value && typeof value === 'object' ? Object.entries(value) : [];
    const fields = [...object(line.rewards).map(([name, value]) => [name, value]), ['advantage', line.advantage],
      ['in the loss', line.in_loss], ['draw', line.draw], ['sample', line.sample], ['age', line.age]];
    const made = element('article', { id: 'completion-' + n, tabIndex: -1 }, head,
      element('div', { className: 'part' }, 'Prompt'), marked(line.prompt ?? ''),
      element('div', { className: 'part' }, 'Completion'), textOf(line));
    made.append(...judged(line));
    // What a file has beyond that, as other versions may write it.
    for (const [name, value] of Object.entries(line).filter(([name]) => !KNOWN.has(name))) {
      const text = typeof value === 'string' ? value : JSON.stringify(value);
      made.append(element('div', { className: 'part' }, visible(name)), marked(text));
    }
    made.append(element('div', { className: 'fields' },
      ...fields.map(([name, value]) => element('span', null, `${visible(name)}: ${number(value)}`))));
    if (n === target) made.classList.add('target');
    return made;
  }

  function list() {
    const found = lines.filter(filter());
    byId('list').replaceChildren(...found.slice(0, limit).map(card));
    byId('further').hidden = found.length <= limit;
    const logged = lines.filter(([, line]) => hasTokens(line)).length;
    byId('legend').hidden = !logged;
    byId('logged').textContent = `${logged} of the step’s completions are logged with the log-probs of their tokens.`;
    const left = block.total - block.shown;
    byId('found').textContent = `Step ${block.step}: ${found.length} of ${block.shown} completions match`
      + (left ? `; ${left} more of this step are not in this page (dapo report --all has them).` : '.');
  }

  const place = () => run.blocks.indexOf(block);

  async function show(step, completion, most) {
    const mine = ++turn;
    const wanted = run.blocks.find(block => block.step === step);
    if (!wanted) {
      byId('found').textContent = `Step ${step} left no completions in this run.`;
      return false;
    }
    let read;
    const late = setTimeout(() => { byId('found').textContent = `Reading the completions of step ${step} …`; }, 150);
    try {
      read = await inflate(step);
    } catch (error) {
      byId('found').textContent = `The completions of step ${step} cannot be read: ${error.message}`;
      return false;
    } finally {
      clearTimeout(late);
    }
    if (mine !== turn) return false;
    [block, lines, limit, target] = [wanted, read, most ?? PAGE, completion ?? null];
    byId('step').value = String(step);
    byId('previous').disabled = place() === 0;
    byId('next').disabled = place() === run.blocks.length - 1;
    choices('fate', 'fate');
    choices('finish', 'finish_reason');
    if (completion) reach(completion);
    list();
    if (completion && !lines.some(([n]) => n === completion)) {
      byId('found').textContent += ` Completion ${completion} is not in this page.`;
    }
    return true;
  }

  // Makes a completion part of the list, whatever filters say.
  function reach(completion) {
    const at = lines.findIndex(([n]) => n === completion);
    if (at < 0) return;
    if (!filter()(lines[at])) form.reset();
    limit = Math.max(PAGE, lines.filter(filter()).findIndex(([n]) => n === completion) + 1);
  }

  async function follow() {
    const hash = new URLSearchParams(location.hash.slice(1));
    if (!hash.has('step')) return false;
    const chosen = runs[Number(hash.get('run') ?? 1) - 1];
    if (chosen && chosen !== run) {
      run = chosen;
      byId('run').value = String(run.place);
      fill();
    }
    const completion = Number(hash.get('completion')) || null;
    await show(Number(hash.get('step')), completion);
    const aim = completion && byId('completion-' + completion);
    (aim || byId('completions')).scrollIntoView();
    aim?.focus({ preventScroll: true });
    return true;
  }

  async function onward() {
    for (const later of run.blocks.slice(place() + 1)) {
      byId('found').textContent = `Searching step ${later.step} …`;
      if ((await inflate(later.step)).some(filter())) return show(later.step);
    }
    byId('found').textContent = 'No completion of a later step in this page matches.';
  }

  function goTo(next) {
    if (next) show(next.step);
  }

  async function start() {
    byId('run').replaceChildren(...runs.map(run => option(run.place, runName(run))));
    byId('run-label').hidden = runs.length === 1;
    if (runs.length === 1) byId('run-label').style.display = 'none';
    fill();
    if (!runs.some(run => run.blocks.length)) {
      byId('found').textContent = 'There are no completions.';
      form.hidden = true;
      form.style.display = 'none';
      return;
    }
    if (before) return restore();
    if (!await follow() && run.blocks.length) await show(run.blocks[0].step);
  }

  const fields = () => [...form.elements].filter(field => field.id && !['run', 'step'].includes(field.id) && 'value' in field);
  viewed(() => ({
    run: run.place, step: block?.step, limit, target,
    fields: fields().map(field => [field.id, field.type === 'checkbox' ? field.checked : field.value]),
  }));

  // As before the page was loaded anew.
  async function restore() {
    run = runs[before.run] ?? run;
    byId('run').value = String(run.place);
    fill();
    for (const [id, value] of before.fields ?? []) {
      const field = byId(id);
      if (typeof value === 'boolean') field.checked = value;
      else {
        if (field.tagName === 'SELECT' && value && ![...field.options].some(option => option.value === value)) {
          field.append(option(value, visible(value)));
        }
        field.value = value;
      }
    }
    const same = run.blocks.find(other => other.step === before.step) ?? run.blocks[0];
    if (same) await show(same.step, before.target, before.limit);
    scrollTo(0, before.top ?? 0);
  }

  byId('run').addEventListener('change', async event => {
    run = runs[Number(event.target.value)];
    fill();
    const same = run.blocks.find(other => other.step === block?.step) || run.blocks[0];
    if (same) return show(same.step);
    byId('list').replaceChildren();
    byId('found').textContent = 'This run has no completions.';
  });
  byId('step').addEventListener('change', event => show(Number(event.target.value)));
  byId('previous').addEventListener('click', () => goTo(run.blocks[place() - 1]));
  byId('next').addEventListener('click', () => goTo(run.blocks[place() + 1]));
  byId('onward').addEventListener('click', onward);
  byId('further').addEventListener('click', () => {
    limit += PAGE;
    list();
  });
  form.addEventListener('submit', event => event.preventDefault());
  byId('colour').addEventListener('input', () => block && list());
  form.addEventListener('input', event => {
    if (!block || ['run', 'step'].includes(event.target.id)) return;
    limit = PAGE;
    list();
  });
  form.addEventListener('reset', () => setTimeout(() => {
    byId('run').value = String(run.place);
    byId('step').value = block ? String(block.step) : '';
    if (block) list();
  }));
  addEventListener('hashchange', follow);
  start();
})();
