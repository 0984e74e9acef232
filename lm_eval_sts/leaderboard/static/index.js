// The board: choose what to rank over, sort, filter.
'use strict';

(() => {
  const { make, link, figure, range, count, unpack, options, switches, unique, entries, slices } = stsBoard;
  const { columns } = stsBoard.table;
  const at = (id) => document.getElementById(id);
  const APART = {
    oracle: 'Oracles: they saw the tuned model; ranked among themselves',
    partial: 'Partial entries: settings or domains are missing; no place',
    seen: 'Fitted on these settings: no test, no place',
  };
  const filters = [['benchmark', 'benchmarks'], ['model', 'models'], ['sft', 'sft_sets']];
  let rows = [];

  const target = switches('target', load);
  const values = switches('values', load);
  const board = stsBoard.table(at('table'), {
    caption: 'Entries, with their correlation and interval',
    columns: [
      columns.predictor(() => target.value),
      { label: 'Place', numeric: true, ascending: true, className: 'number', value: (row) => row.best, cell: (row) => stsBoard.table.place(row, row.of) },
      columns.value,
      columns.bars,
      columns.ceiling,
      columns.category,
      { label: 'Settings', numeric: true, className: 'number', value: (row) => row.settings, cell: (row) => `${row.settings}` },
      columns.domains,
      columns.cost,
      columns.seconds,
    ],
    sorted: 2,
    rowClass: (row) => (row.leading ? 'leading' : null),
  });

  const chosen = () => slices.find((slice) => slice.id === at('slice').value);

  /** Slices all of whose settings fit the filters. */
  function fitting() {
    return slices.filter((slice) => filters.every(([id, key]) => !at(id).value || (slice[key].length === 1 && slice[key][0] === at(id).value)));
  }

  function fillSlices() {
    const kept = at('slice').value;
    const found = fitting();
    at('slice').replaceChildren();
    for (const [title, prefix] of [['Several settings', 'scopes/'], ['One setting', 'settings/']]) {
      const some = found.filter((slice) => slice.id.startsWith(prefix));
      if (some.length) at('slice').append(make('optgroup', { label: title }, ...some.map((slice) => make('option', { value: slice.id }, slice.title))));
    }
    if (found.some((slice) => slice.id === kept)) at('slice').value = kept;
  }

  function fillFilters() {
    for (const [id, key] of filters) options(at(id), unique(slices.flatMap((slice) => slice[key])), 'any');
    options(at('category'), unique(entries.map((entry) => entry.category)), 'any');
    at('declares').append(make('option', { value: '' }, 'any'), make('option', { value: 'magnitude' }, 'size |Δ|'), make('option', { value: 'delta' }, 'signed Δ'));
  }

  async function load() {
    const slice = chosen();
    at('frontier').replaceChildren();
    if (!slice) {
      at('scope').textContent = 'No registered setting fits these filters';
      for (const id of ['about', 'verdict', 'uncosted']) at(id).textContent = '';
      at('listed').hidden = true;
      rows = [];
      show();
      return;
    }
    target.enable(unique(slice.tables.map((name) => name.split('/')[0])));
    values.enable(unique(slice.tables.map((name) => name.split('/')[1])));
    const key = `${target.value}/${values.value}`;
    const file = await stsBoard.data(slice.id);
    if (slice !== chosen() || key !== `${target.value}/${values.value}`) return; // chosen anew in the meantime
    describe(slice);
    rows = unpack(file.columns, file.tables[key]);
    for (const group of ['ranked', 'oracle']) {
      const placed = rows.filter((row) => row.group === group && row.best !== null && row.best !== undefined);
      for (const row of placed) row.of = placed.length;
    }
    if (slice.id.startsWith('settings/')) {
      for (const row of rows) Object.assign(row, { settings: 1, best: null, worst: null, leading: false, group: single(row) });
    }
    remember();
    show();
  }

  function single(row) {
    if (row.seen) return 'seen';
    return entries[row.entry].category === 'oracle' ? 'oracle' : 'ranked';
  }

  function describe(slice) {
    at('scope').textContent = slice.title;
    const view = slice.view === 'score' ? '' : ` Changes of the ${slice.view.replaceAll('_', ' ')}.`;
    const domains = slice.domains.length ? ` Over ${slice.domains.length} domains: ${slice.domains.join(', ')}.` : '';
    at('about').textContent = slice.description + view + domains;
    const number = slice.settings.length;
    at('listed').hidden = false;
    at('listed').querySelector('summary').textContent = number === 1 ? 'The setting' : `The ${number} settings`;
    at('listed').querySelector('ul').replaceChildren(...slice.settings.map((name) => make('li', {}, link(name, `settings/${name}.html`))));
  }

  function visible() {
    const words = at('search').value.toLowerCase().split(/\s+/).filter(Boolean);
    return rows.filter((row) => {
      const entry = entries[row.entry];
      const text = `${entry.name} ${entry.title} ${entry.submitter}`.toLowerCase();
      return (!at('category').value || entry.category === at('category').value)
        && (!at('declares').value || entry.target === at('declares').value)
        && words.every((word) => text.includes(word));
    });
  }

  function show() {
    const found = visible();
    const ranked = found.filter((row) => row.group === 'ranked');
    const leading = ranked.filter((row) => row.leading);
    board.show([
      { title: 'Leading group: not separable from the best', rows: leading },
      { title: leading.length ? 'Complete entries that are separable from the best' : 'Complete entries', rows: ranked.filter((row) => !row.leading) },
      ...Object.entries(APART).map(([group, title]) => ({ title, rows: found.filter((row) => row.group === group) })),
    ]);
    verdict(found);
    frontier(found);
  }

  /** The result in a sentence: filters hide rows, they do not change who was compared. */
  function verdict(found) {
    const placed = rows.filter((row) => row.group === 'ranked' && row.best !== null && row.best !== undefined);
    const leading = placed.filter((row) => row.leading);
    const hidden = rows.length - found.length;
    let text = '';
    if (placed.length > 1) {
      text = leading.length === placed.length
        ? `None of the ${placed.length} ranked entries is separable from the best.`
        : leading.length === 1
          ? `${entries[leading[0].entry].name} leads: each of the ${placed.length - 1} other ranked entries is separable from it.`
          : `${leading.length} of ${placed.length} ranked entries lead: they are not separable from the best.`;
    }
    at('verdict').textContent = text + (hidden ? ` ${hidden} of ${rows.length} rows are hidden by filters; places count all.` : '');
  }

  function frontier(found) {
    const points = found.filter((row) => row.value !== null && entries[row.entry].cost !== null && row.group !== 'seen');
    const without = found.filter((row) => row.value !== null && entries[row.entry].cost === null).length;
    at('uncosted').textContent = without ? `Not drawn, for want of a stated cost: ${without}.` : '';
    at('frontier').hidden = points.length === 0;
    if (!points.length) {
      at('uncosted').textContent = 'No entry shown has both a value and a known cost.';
      return;
    }
    const data = points.map((row) => {
      const entry = entries[row.entry];
      return {
        name: entry.name, title: entry.title, category: entry.category, cost: entry.cost, page: stsBoard.up + entry.page,
        value: row.value, low: row.low ?? row.value, high: row.high ?? row.value,
        shown: `${figure(row.value)} ${range(row.low, row.high)}`, expected: figure(row.ceiling),
        place: row.best === null || row.best === undefined ? stsBoard.NONE : `${row.best}–${row.worst} of ${row.of}`,
        tokens: count(entry.cost),
      };
    });
    stsBoard.chart(at('frontier'), 'frontier', data, (spec) => decades(spec, data));
  }

  /** Labels at powers of ten, where there are several. */
  function decades(spec, data) {
    const powers = data.map((row) => Math.log10(Math.max(row.cost, 1)));
    const [low, high] = [Math.ceil(Math.min(...powers)), Math.floor(Math.max(...powers))];
    if (high - low < 1) return;
    const ticks = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i));
    for (const layer of spec.layer) layer.encoding.x.axis.values = ticks;
  }

  /** What is shown, in the address, so that it can be linked. */
  function remember() {
    const state = new URLSearchParams({ over: at('slice').value, target: target.value, values: values.value });
    history.replaceState(null, '', `#${state}`);
  }

  function recall() {
    const state = new URLSearchParams(location.hash.slice(1));
    const wanted = slices.find((slice) => slice.id === state.get('over'));
    if (!wanted) return;
    at('slice').value = wanted.id;
    if (state.get('target')) target.value = state.get('target');
    if (state.get('values')) values.value = state.get('values');
  }

  fillFilters();
  fillSlices();
  recall();
  for (const [id] of filters) {
    at(id).addEventListener('change', () => {
      fillSlices();
      load();
    });
  }
  at('slice').addEventListener('change', load);
  for (const id of ['category', 'declares']) at(id).addEventListener('change', show);
  at('search').addEventListener('input', show);
  load();
})();
