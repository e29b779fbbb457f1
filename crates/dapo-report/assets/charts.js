'use strict';
// The curves, drawn by uPlot.

(() => {
  const CURVES = [
    ['Response length', 'tokens', ['completions/mean_length', 'completions/mean_terminated_length']],
    ['Reward', '', ['reward']],
    ['Entropy', 'nats', ['entropy']],
    ['Mean probability', '', ['mean_token_prob']],
    ['Accuracy in evaluations', 'avg@k with 95 % interval', 'evaluations'],
    ['Accuracy of rollouts', '', ['accuracy']],
    ['Clip fractions', 'of tokens', ['clip_ratio/low_mean', 'clip_ratio/high_mean', 'clip_ratio/region_mean', 'critic/vf_clipfrac']],
    ['KL', 'nats', ['kl', 'ref_kl']],
    ['Gradient norm', '', ['grad_norm', 'critic/grad_norm']],
    ['Learning rate', '', ['lr', 'critic/lr']],
    ['Values and returns', 'in units of the reward', ['critic/vpred_mean', 'critic/returns/mean']],
    ['Value loss', '', ['critic/vf_loss']],
    ['Explained variance of the returns', '1: foreseen, 0: not at all', ['critic/vf_explained_var']],
    ['Staleness', 'share of the groups trained on', ['sampling/stale_fraction']],
    ['Truncated completions', 'share', ['completions/clipped_ratio']],
    ['Dynamic sampling', 'groups by outcome', 'account'],
    ['Throughput', 'tokens per second', ['tokens_per_second'], 'timings'],
    ['Time of a step', 'seconds', 'time'],
  ];
  // In this order every group that came in is counted once; those filled in again are among the dropped.
  const OUTCOMES = ['trained', 'all_correct', 'all_wrong', 'other', 'discarded', 'carried_out', 'expired'];
  const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3]];
  const plots = [];
  let isReady = false;

  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const stepsOf = table => table === 'timings' ? 'timed_steps' : 'steps';
  const isMeasured = values => (values || []).some(value => value !== null);
  const union = lists => [...new Set(lists.flat())].sort((a, b) => a - b);

  // For every step the mean, least and greatest of a group's runs.
  function ofGroup(group, table, key, steps) {
    const places = new Map(steps.map((step, place) => [step, place]));
    const found = steps.map(() => []);
    for (const run of group.runs) {
      (run[table][key] || []).forEach((value, place) => {
        if (value !== null) found[places.get(run[stepsOf(table)][place])].push(value);
      });
    }
    const by = summary => found.map(values => values.length ? summary(values) : null);
    return {
      mean: by(values => values.reduce((sum, value) => sum + value, 0) / values.length),
      low: by(values => Math.min(...values)),
      high: by(values => Math.max(...values)),
    };
  }

  // A line, with a band where it has one: [label, values, band, colour, dash].
  function lines(x, parts, gaps) {
    const data = [x], series = [{ label: 'step' }], bands = [];
    for (const { label, mean, low, high, hue, dash } of parts) {
      const stroke = color(hue);
      data.push(mean);
      series.push({ label, stroke, width: 1.6, dash: DASHES[(dash || 0) % DASHES.length], spanGaps: !gaps,
        value: (_, value) => number(value) });
      if (high) {
        const edge = { class: 'edge', stroke: stroke + '66', width: 1, points: { show: false }, spanGaps: !gaps };
        data.push(high, low);
        series.push({ label: label + ' high', ...edge }, { label: label + ' low', ...edge });
        bands.push({ series: [data.length - 2, data.length - 1], fill: stroke + '33' });
      }
    }
    // A line of zeros is no reason for an axis up to 100.
    const range = (_, least, most) => least === 0 && most === 0 ? [0, 1] : uPlot.rangeNum(least, most, 0.1, true);
    return { data, series, bands, scales: { x: { time: false }, y: { range } } };
  }

  function curves(table, keys) {
    const measured = keys.filter(key => runs.some(run => isMeasured(run[table][key])));
    if (!measured.length) return null;
    const x = union(runs.map(run => run[stepsOf(table)]));
    const parts = groups.flatMap(group => measured.map((key, dash) => {
      const { mean, low, high } = ofGroup(group, table, key, x);
      const band = group.runs.length > 1 ? { low, high } : {};
      const name = key.replace(/^(completions|clip_ratio|sampling|rewards)\//, '').replaceAll('_', ' ');
      const label = groups.length > 1 ? group.name + (measured.length > 1 ? ' ' + name : '') : name;
      return { label: visible(label), mean, ...band, hue: groups.length > 1 ? group.color : dash,
        dash: groups.length > 1 ? dash : 0 };
    }));
    return lines(x, parts, true);
  }

  function evaluations() {
    const x = union(runs.map(run => run.evaluations.map(line => line.step)));
    const parts = runs.filter(run => run.evaluations.some(line => line.avg_at_k)).map(run => {
      const by = new Map(run.evaluations.map(line => [line.step, line.avg_at_k || {}]));
      const part = key => x.map(step => by.get(step)?.[key] ?? null);
      const hue = runs.length > groups.length ? run.place : run.owner.color;
      return { label: runName(run), mean: part('mean'), low: part('low'), high: part('high'), hue };
    });
    return parts.length ? lines(x, parts, false) : null;
  }

  // Layers upon each other: [label, values].
  function stacked(x, layers) {
    const data = [x], series = [{ label: 'step' }], bands = [];
    let below = x.map(() => 0);
    layers.forEach(([label, values], place) => {
      below = below.map((sum, at) => sum === null || values[at] === null ? null : sum + values[at]);
      data.push(below);
      const fill = color(place) + '66';
      series.push({ label, stroke: color(place), width: 1, fill: place ? undefined : fill, points: { show: x.length < 2 },
        value: (_, __, ___, at) => at === null ? '–' : number(values[at]) });
      if (place) bands.push({ series: [place + 1, place], fill });
    });
    return { data, series, bands, scales: { x: { time: false }, y: { range: (_, __, most) => [0, most * 1.05 || 1] } } };
  }

  function account(group) {
    const x = union(group.runs.map(run => run.steps));
    const layer = key => ofGroup(group, 'metrics', 'dynamic_sampling/' + key, x).mean;
    const layers = OUTCOMES.map(key => [key.replaceAll('_', ' '), layer(key)]);
    return stackOf(x, layers);
  }

  function time(group) {
    const x = union(group.runs.map(run => run.timed_steps));
    const keys = [...new Set(group.runs.flatMap(run => Object.keys(run.timings)))];
    const named = keys.filter(key => key.endsWith('_time') && key !== 'step_time');
    const layers = named.map(key => [visible(key.slice(0, -5)), ofGroup(group, 'timings', key, x).mean]);
    const whole = ofGroup(group, 'timings', 'step_time', x).mean;
    const rest = whole.map((seconds, at) => seconds === null
      ? null : Math.max(0, seconds - layers.reduce((sum, [, values]) => sum + (values[at] ?? 0), 0)));
    return stackOf(x, [...layers, ['other', rest]]);
  }

  // Layers that are nothing but 0 are left out; a step without any value is a gap.
  function stackOf(x, layers) {
    const has = x.map((_, at) => layers.some(([, values]) => values[at] !== null));
    const filled = layers.map(([label, values]) => [label, values.map((value, at) => has[at] ? value ?? 0 : null)]);
    const seen = filled.filter(([, values]) => values.some(value => value > 0));
    return seen.length ? stacked(x, seen) : null;
  }

  function figure(target, title, unit, make) {
    const place = element('div', { className: 'plot', tabIndex: 0, role: 'group',
      'aria-label': `${title}: chart; arrow keys move the cursor, Enter opens the completions of the step` });
    target.append(element('figure', null,
      element('figcaption', null, title, ' ', element('span', null, unit)), place));
    const entry = { place, make, plot: null };
    plots.push(entry);
    place.addEventListener('keydown', event => keys(drawn(entry), event));
    new ResizeObserver(() => {
      const width = place.clientWidth;
      if (width && entry.plot && width !== entry.plot.width) entry.plot.setSize({ width, height: 220 });
    }).observe(place);
    // The first charts are drawn at once, the others as they come near.
    if (plots.length <= 4) {
      draw(entry);
      return;
    }
    const near = new IntersectionObserver(found => {
      if (!found.some(one => one.isIntersecting)) return;
      near.disconnect();
      drawn(entry);
    }, { rootMargin: '500px' });
    near.observe(place);
  }

  function drawn(entry) {
    if (!entry.plot) draw(entry);
    return entry.plot;
  }

  function draw(entry) {
    entry.plot?.destroy();
    const { data, ...options } = entry.make();
    const [text, grid] = [css('--text'), css('--line')];
    const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid }, font: '12px system-ui, sans-serif' };
    const size = (_, values) => 16 + 7 * Math.max(2, ...(values || []).map(value => value.length));
    entry.plot = new uPlot({ ...options, width: entry.place.clientWidth || 320, height: 220,
      axes: [{ ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6] },
        { ...axis, size, values: (_, values) => values.map(number) }],
      legend: { markers: { dash: (plot, at) => plot.series[at].dash?.length ? 'dashed' : 'solid' } },
      cursor: { sync: { key: 'steps' }, y: false } }, data, entry.place);
    entry.plot.over.addEventListener('click', () => open(entry.plot));
    for (const name of entry.plot.root.querySelectorAll('.u-legend .u-series:not(:first-child):not(.edge) th')) {
      name.tabIndex = 0;
      name.setAttribute('role', 'button');
      name.addEventListener('keydown', event => {
        if (event.key !== 'Enter' && event.key !== ' ') return;
        event.preventDefault();
        event.stopPropagation();
        name.click();
      });
    }
  }

  function open(plot) {
    const step = plot.data[0][plot.cursor.idx];
    if (step !== undefined) location.hash = '#step=' + step;
  }

  function keys(plot, event) {
    if (event.target.tagName === 'TH') return;
    const x = plot.data[0], at = plot.cursor.idx;
    const to = { ArrowLeft: (at ?? x.length) - 1, ArrowRight: (at ?? -1) + 1, Home: 0, End: x.length - 1 }[event.key];
    if (event.key === 'Enter') open(plot);
    else if (to === undefined) return;
    else {
      const step = x[Math.min(Math.max(to, 0), x.length - 1)];
      plot.setCursor({ left: plot.valToPos(step, 'x'), top: plot.over.clientHeight / 2 });
    }
    event.preventDefault();
  }

  function all() {
    const target = byId('charts'), missing = [];
    const add = (title, unit, make) => make() ? figure(target, title, unit, make) : missing.push(title);
    const perGroup = (title, unit, make) => {
      for (const group of groups) add(title + (groups.length > 1 ? ': ' + group.name : ''), unit, () => make(group));
    };
    for (const [title, unit, keys, table] of CURVES) {
      if (keys === 'evaluations') add(title, unit, evaluations);
      else if (keys === 'account') perGroup(title, unit, account);
      else if (keys === 'time') perGroup(title, unit, time);
      else add(title, unit, () => curves(table || 'metrics', keys));
    }
    if (missing.length) {
      byId('unmeasured').hidden = false;
      byId('unmeasured').textContent = 'Not measured: ' + missing.join(', ') + '.';
    }
    const repeated = groups.filter(group => group.runs.length > 1);
    if (repeated.length) {
      byId('bands').hidden = false;
      byId('bands').textContent = 'Runs that differ by their seed alone are one line, the mean of those that have the step; '
        + 'the band reaches from the least to the greatest. '
        + repeated.map(group => group.name + ': ' + group.runs.map(runName).join(', ')).join('; ') + '.';
    }
  }

  // The rest is drawn when it is asked for.
  function more() {
    if (isReady) return;
    isReady = true;
    const shown = new Set(CURVES.flatMap(([, , keys]) => Array.isArray(keys) ? keys : []));
    const keys = [...new Set(runs.flatMap(run => Object.keys(run.metrics)))].sort();
    for (const key of keys.filter(key => !shown.has(key))) {
      const make = () => curves('metrics', [key]);
      if (make()) figure(byId('more').querySelector('.charts'), visible(key), '', make);
    }
  }

  all();
  byId('more').addEventListener('toggle', more);
  isDark.addEventListener('change', () => plots.filter(entry => entry.plot).forEach(draw));
  addEventListener('beforeprint', () => plots.forEach(drawn));
})();
