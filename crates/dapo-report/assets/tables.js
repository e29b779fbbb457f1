'use strict';
// Warnings, the runs at a glance, evaluations and settings.

(() => {
  const last = (run, key) => (run.metrics[key] || []).findLast(value => value !== null);
  const swatch = run => {
    const mark = element('span', { className: 'swatch' });
    mark.style.background = color(run.owner.color);
    return element('span', { className: 'name' }, mark, runName(run));
  };

  function warnings() {
    const all = runs.flatMap(run => run.warnings.map(text => [run, text]));
    if (!all.length) return;
    byId('warnings').hidden = false;
    const item = ([run, text]) => element('li', null, (runs.length > 1 ? runName(run) + ': ' : '') + visible(text));
    byId('warnings').append(element('ul', null, ...all.map(item)));
  }

  function glance() {
    const head = ['run', 'steps', 'reward', 'accuracy', 'entropy', 'length', 'evaluation', 'completions in this page'];
    const rows = runs.map(run => {
      const made = run.steps[run.steps.length - 1] ?? 0;
      const of = run.planned && run.planned !== made ? ` of ${run.planned}` : '';
      const evaluation = run.evaluations[run.evaluations.length - 1];
      const sum = key => run.blocks.reduce((sum, block) => sum + block[key], 0);
      return [swatch(run), made + of, last(run, 'reward'), last(run, 'accuracy'), last(run, 'entropy'),
        last(run, 'completions/mean_length'), evaluation ? interval(evaluation.avg_at_k) : '–',
        `${sum('shown')} of ${sum('total')}`];
    });
    byId('runs').replaceChildren(table(head, rows, 'Runs', true));
    const left = runs.flatMap(run => run.blocks).reduce((sum, block) => sum + block.total - block.shown, 0);
    if (left) {
      byId('runs').append(element('p', { className: 'hint' },
        `${left} completions are left out to keep the page small. “dapo report --all” has them all.`));
    }
  }

  function interval(estimate) {
    if (!estimate || typeof estimate.mean !== 'number') return '–';
    return `${number(estimate.mean)} (${number(estimate.low)} to ${number(estimate.high)})`;
  }

  function evaluations() {
    const rows = [];
    // Of one completion for each problem, pass@1 and maj@1 are avg@1.
    const isApart = line => line.samples !== 1;
    const several = runs.some(run => run.evaluations.some(isApart));
    for (const run of runs) {
      for (const line of run.evaluations) {
        const pass = Array.isArray(line.pass_at) && isApart(line) ? line.pass_at : [];
        const apart = [pass.map(at => `@${number(at.k)} ${interval(at)}`).join(', ') || '–',
          isApart(line) ? interval(line.maj_at_k) : '–'];
        rows.push([swatch(run), line.step, line.problems, line.samples, interval(line.avg_at_k), ...(several ? apart : []),
          line.truncated, line.mean_length].map(cell => typeof cell === 'object' && !(cell instanceof Node) ? number(cell) : cell));
      }
    }
    const head = ['run', 'step', 'problems', 'samples', 'avg@k (95 %)', ...(several ? ['pass@k', 'maj@k'] : []), 'truncated', 'length'];
    byId('evaluations').append(rows.length
      ? table(head, rows, 'Evaluations', true) : element('p', { className: 'hint' }, 'No evaluation was made.'));
  }

  function settings() {
    const known = runs.filter(run => run.settings);
    if (!known.length) {
      byId('settings').append(element('p', { className: 'hint' }, 'No run has readable settings.'));
      return;
    }
    const keys = [...new Set(known.flatMap(run => Object.keys(run.settings)))].sort();
    const differs = key => new Set(known.map(run => run.settings[key])).size > 1;
    const row = key => [element('code', null, visible(key)),
      ...known.map(run => key in run.settings ? element('code', null, visible(run.settings[key])) : 'not set')];
    const head = ['setting', ...known.map(runName)];
    if (known.length > 1) {
      const different = keys.filter(differs);
      byId('settings').append(different.length
        ? table(head, different.map(row), 'Settings that differ')
        : element('p', { className: 'hint' }, 'All settings are the same.'));
    }
    byId('settings').append(element('details', null,
      element('summary', null, `All ${keys.length} settings`), table(head, keys.map(row), 'All settings')));
  }

  warnings();
  glance();
  isDark.addEventListener('change', glance);
  evaluations();
  settings();
})();
