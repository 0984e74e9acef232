// The board: choose what to rank over, sort, filter. What is chosen stands in the address.
'use strict';

(() => {
  const { make, link, figure, range, count, unpack, options, switches, unique, matches, entries, slices, NONE } = stsBoard;
  const { columns, place, placed } = stsBoard.table;
  const at = (id) => document.getElementById(id);
  const OTHER = { raw: 'double_centred', double_centred: 'raw' };
  const NAMES = { raw: 'raw', double_centred: 'double-centred' };
  const APART = {
    oracle: 'Oracles: they saw the tuned model; not ranked',
    partial: 'Partial entries: SFT runs or domains are missing; no place',
    seen: 'Fitted on these SFT runs: no test, no place',
  };
  const FILTERS = [['benchmark', 'benchmarks'], ['model', 'models'], ['sft', 'sft_sets']];
  const SELECTS = ['benchmark', 'model', 'sft', 'category', 'declares'];
  const target = switches('target', changed);
  const values = switches('values', changed);
  const DEFAULTS = {
    over: slices.length ? slices[0].id : '', target: target.wanted, values: values.wanted, search: '', sort: '-correlation', columns: '',
    a: '', b: '', ...Object.fromEntries(SELECTS.map((id) => [id, ''])),
  };
  const address = stsBoard.address(DEFAULTS, (state) => {
    recall(state);
    load();
  });
  let sorted = null;
  let rows = [];
  let said = []; // about it, in words
  let scope = null; // the slice that is shown

  const board = stsBoard.table(at('table'), {
    caption: 'Entries, with their correlation and interval',
    columns: [
      columns.predictor(() => target.value),
      { id: 'place', label: 'Place', numeric: true, ascending: true, className: 'number', value: (row) => row.best, cell: (row) => place(row, row.of) },
      columns.value,
      columns.bars,
      { id: 'other', label: () => NAMES[OTHER[values.value]].replace(/^./, (letter) => letter.toUpperCase()), numeric: true, optional: true, className: 'number', hint: 'The correlation of the other kind of values', value: (row) => row.other, cell: (row) => figure(row.other) },
      columns.ceiling,
      columns.category,
      columns.runs,
      columns.domains,
      columns.cost,
      columns.seconds,
    ],
    rowClass: (row) => (row.group !== 'ranked' ? null : row.leading ? 'leading' : row.best === 1 ? 'possible' : null),
    onSort: (order) => {
      sorted = order;
      remember();
    },
    onHide: (hidden) => {
      const said = hidden.map(({ label, value }) => `${label} ${typeof value === 'number' ? Number(value.toPrecision(3)) : value ?? NONE}`);
      at('constant').textContent = said.length ? `Left out, as (nearly) all rows say the same: ${said.join(', ')}.` : '';
    },
  });

  const chosen = () => slices.find((slice) => slice.id === at('slice').value);

  /** Slices all of whose SFT runs fit the filters. */
  function fitting() {
    return slices.filter((slice) => FILTERS.every(([id, key]) => !at(id).value || (slice[key].length === 1 && slice[key][0] === at(id).value)));
  }

  function fillSlices() {
    const kept = at('slice').value;
    const found = fitting();
    at('slice').replaceChildren();
    for (const world of ['real', 'synthetic']) {
      for (const [title, prefix] of [['several SFT runs', 'scopes/'], ['one SFT run', 'settings/']]) {
        const some = found.filter((slice) => slice.world === world && slice.id.startsWith(prefix));
        if (some.length) at('slice').append(make('optgroup', { label: `${world}: ${title}` }, ...some.map((slice) => make('option', { value: slice.id }, slice.title))));
      }
    }
    if (found.some((slice) => slice.id === kept)) at('slice').value = kept;
  }

  function fillFilters() {
    for (const [id, key] of FILTERS) options(at(id), unique(slices.flatMap((slice) => slice[key])), 'any');
    options(at('category'), unique(entries.map((entry) => entry.category)), 'any');
    at('declares').append(make('option', { value: '' }, 'any'), make('option', { value: 'magnitude' }, 'size |Δ|'), make('option', { value: 'delta' }, 'signed Δ'));
  }

  async function load() {
    const slice = chosen();
    at('frontier').replaceChildren();
    at('listed').hidden = !slice;
    at('world').hidden = !slice;
    if (!slice) {
      [scope, rows, said] = [null, [], []];
      at('scope').textContent = slices.length ? 'No SFT run fits these filters' : 'Nothing was submitted yet';
      for (const id of ['about', 'fallback']) at(id).textContent = '';
      fillPair();
      show();
      return;
    }
    target.enable(unique(slice.tables.map((name) => name.split('/')[0])));
    values.enable(unique(slice.tables.map((name) => name.split('/')[1])));
    const wanted = [target.value, values.value];
    const file = await stsBoard.data(slice.id);
    if (slice !== chosen() || target.value !== wanted[0] || values.value !== wanted[1]) return; // chosen anew in the meantime
    scope = slice;
    rows = tableOf(file, ...wanted).map((row) => ({ ...row, ...spent(entries[row.entry]) }));
    said = (file.verdicts && file.verdicts[wanted.join('/')]) || [];
    const others = new Map(tableOf(file, wanted[0], OTHER[wanted[1]]).map((row) => [`${row.entry}/${row.group}`, row.value]));
    for (const row of rows) row.other = others.get(`${row.entry}/${row.group}`) ?? null;
    describe(slice);
    fillPair();
    show();
  }

  function tableOf(file, wantedTarget, wantedValues) {
    const found = unpack(file.columns, file.tables[`${wantedTarget}/${wantedValues}`] || []);
    if ('group' in (found[0] || { group: null })) return found;
    return found.map((row) => ({ ...row, settings: 1, best: null, worst: null, leading: false, group: single(row) })); // one SFT run
  }

  function single(row) {
    if (row.seen) return 'seen';
    return entries[row.entry].category === 'oracle' ? 'oracle' : 'ranked';
  }

  function describe(slice) {
    at('scope').textContent = slice.title;
    stsBoard.badge(at('world'), slice.world);
    const view = slice.view === 'score' ? '' : ` Changes of the ${slice.view.replaceAll('_', ' ')}.`;
    const domains = slice.domains.length ? ` Over ${slice.domains.length} domains: ${slice.domains.join(', ')}.` : '';
    at('about').textContent = slice.description + view + domains;
    const number = slice.settings.length;
    at('listed').querySelector('summary').textContent = number === 1 ? 'What this is, and its SFT run' : `What this is, and its ${number} SFT runs`;
    at('listed').querySelector('ul').replaceChildren(...slice.settings.map((name) => make('li', {}, link(name, `settings/${name}.html`))));
    const missing = values.wanted !== values.value;
    at('fallback').hidden = !missing;
    at('fallback').textContent = missing
      ? `${NAMES[values.value]} values: with one SFT run of a base model and benchmark nothing can be ${NAMES[values.wanted]}.`.replace(/^r/, 'R')
      : '';
  }

  function visible() {
    return rows.filter((row) => {
      const entry = entries[row.entry];
      return (!at('category').value || entry.category === at('category').value)
        && (!at('declares').value || entry.target === at('declares').value)
        && matches(at('search').value, `${entry.name} ${entry.title}`);
    });
  }

  function show() {
    const found = visible();
    const ranked = found.filter((row) => row.group === 'ranked');
    const without = ranked.some((row) => row.best) ? 'Ruled out as the best, or without a value' : 'Complete entries: no places';
    board.show([
      { title: 'Leading', rows: ranked.filter((row) => row.leading) },
      { title: 'Not ruled out: place starts at 1', rows: ranked.filter((row) => !row.leading && row.best === 1) },
      { title: without, rows: ranked.filter((row) => row.best !== 1) },
      ...Object.entries(APART).map(([group, title]) => ({ title, rows: found.filter((row) => row.group === group) })),
    ], { all: at('columns').checked, sorted });
    verdict(found);
    frontier(found);
  }

  /** The result in words: filters hide rows, they do not change who was compared. */
  function verdict(found) {
    const hidden = rows.length - found.length;
    let [text, needed] = said;
    if (!text && rows.length) {
      text = scope.id.startsWith('settings/') ? 'One SFT run by itself: no places' : 'No entry predicts all domains of all these SFT runs: no places';
    }
    at('verdict').textContent = [text, hidden ? `${hidden} of ${rows.length} rows are hidden by filters; places count all` : ''].filter(Boolean).map((one) => `${one}.`).join(' ');
    at('needed').textContent = needed ? `${needed}.` : '';
  }

  /** Offers the entries of the table, each once, the best first; keeps what was chosen. */
  function fillPair() {
    const names = [...new Set(rows.map((row) => entries[row.entry].name))];
    const wanted = address.read();
    for (const [i, id] of ['a', 'b'].entries()) {
      options(at(id), names);
      if (names.includes(wanted[id])) at(id).value = wanted[id];
      else if (names.length > i) at(id).value = names[i];
    }
    const absent = [wanted.a, wanted.b].filter((name) => name && !names.includes(name));
    at('absent').hidden = !absent.length;
    at('absent').textContent = `Not among the entries here: ${absent.join(', ')}.`;
    showPair();
  }

  /** The pair needs the data of every SFT run: they are read when it comes into sight, or was asked for. */
  let near = Boolean(address.read().a || address.read().b);
  const watch = new IntersectionObserver((seen) => {
    if (!seen.some((one) => one.isIntersecting)) return;
    watch.disconnect();
    near = true;
    showPair();
  }, { rootMargin: '200px' });

  function showPair() {
    if (!near) return;
    const state = [scope, target.value, at('a').value, at('b').value];
    const found = state.slice(2).map((name) => rows.find((row) => entries[row.entry].name === name));
    if (!scope || found.includes(undefined) || found[0] === found[1]) {
      at('pair').replaceChildren(make('p', { class: 'note' }, 'Choose two entries.'));
      return;
    }
    const current = () => [scope, target.value, at('a').value, at('b').value].every((value, i) => value === state[i]);
    stsBoard.pair(at('pair'), scope, target.value, found, current);
  }

  /** What an SFT run of the slice costs an entry; nothing where that is not known of all of them. */
  function spent(entry) {
    const known = !entry.cost_of.length || scope.settings.every((name) => entry.cost_of.includes(name.split('/')[0]));
    return known ? { cost: entry.cost, seconds: entry.seconds } : { cost: null, seconds: null };
  }

  function frontier(found) {
    const points = found.filter((row) => row.value !== null && row.cost !== null && row.group !== 'seen');
    const without = found.filter((row) => row.value !== null && row.cost === null).length;
    at('uncosted').textContent = without ? `Not drawn, for want of a stated cost: ${without}.` : '';
    at('frontier').hidden = points.length === 0;
    if (!points.length) {
      at('uncosted').textContent = 'No entry shown has both a value and a known cost.';
      return;
    }
    const paid = points.map((row) => row.cost).filter((cost) => cost > 0);
    const free = (paid.length ? Math.min(...paid) : 1) / 3; // a logarithmic axis has no 0
    const data = points.map((row) => {
      const entry = entries[row.entry];
      return {
        name: entry.name, title: stsBoard.table.described(entry), category: entry.category, cost: row.cost, page: stsBoard.up + entry.page,
        drawn: row.cost || free, value: row.value, low: row.low ?? row.value, high: row.high ?? row.value,
        shown: `${figure(row.value)} ${range(row.low, row.high)}`, expected: figure(row.ceiling),
        place: row.best ? `${placed(row)} of ${row.of}` : NONE, tokens: count(row.cost),
      };
    });
    stsBoard.chart(at('frontier'), 'frontier', data, (spec, size) => {
      const [low, high] = [Math.min(...data.map((row) => row.low)), Math.max(...data.map((row) => row.high))];
      const [least, most] = [Math.min(...data.map((row) => row.drawn)), Math.max(...data.map((row) => row.drawn))];
      const x = (row) => (most > least ? Math.log(row.drawn / least) / Math.log(most / least) : 0.5);
      stsBoard.label(data, { x, y: (row) => (row.value - low) / (high - low || 1), text: (row) => row.name, by: (row) => -row.value, size });
      for (const layer of spec.layer) {
        layer.encoding.y.scale = { domain: [low, high], nice: false };
        layer.encoding.x.axis = { values: ticks(least, most), labelExpr: `datum.value < ${2 * free} ? '0' : format(datum.value, '~s')` };
      }
    });
  }

  /** The least, and powers of ten, or where there is none the most. */
  function ticks(least, most) {
    const [low, high] = [Math.ceil(Math.log10(least * 1.5)), Math.floor(Math.log10(most))];
    const powers = Array.from({ length: Math.max(0, high - low + 1) }, (_, i) => 10 ** (low + i));
    return unique([least, ...(powers.length ? powers : [most])]);
  }

  function saveCsv() {
    const heading = [
      'predictor', 'title', 'category', 'declares', 'submitter', 'scope', 'world', 'compared_with', 'values', 'group',
      'place_best', 'place_worst', 'places', 'not_ruled_out', 'leading', 'correlation', 'ci95_low', 'ci95_high', 'undefined',
      `correlation_${OTHER[values.value]}`, 'noise_ceiling', 'sft_runs', 'domains', 'token_equivalents', 'seconds',
    ];
    const lines = board.rows().map((row) => {
      const entry = entries[row.entry];
      return [
        entry.name, entry.title, entry.category, entry.target, entry.submitter, scope.title, scope.world, target.value, values.value, row.group,
        row.best, row.worst, row.best ? row.of : null, row.best ? row.best === 1 : null, row.leading, row.value, row.low, row.high, row.undefined,
        row.other, row.ceiling, row.settings, row.domains, row.cost, row.seconds,
      ];
    });
    stsBoard.download(`sts-leaderboard-${scope ? scope.id.replaceAll('/', '-') : 'nothing'}.csv`, stsBoard.csv([heading, ...lines]));
  }

  function remember(how) {
    const order = sorted ? `${sorted.descending ? '-' : ''}${sorted.id}` : '';
    const pair = address.read();
    address.write({
      over: at('slice').value, target: target.wanted, values: values.wanted, search: at('search').value, sort: order,
      columns: at('columns').checked ? 'all' : '', a: pair.a, b: pair.b, ...Object.fromEntries(SELECTS.map((id) => [id, at(id).value])),
    }, how);
  }

  /** Puts an address's choices into the controls; says what of them is not here. */
  function recall(state) {
    const unknown = [];
    const choose = (id, value) => {
      at(id).value = value;
      if (at(id).value === value) return;
      at(id).selectedIndex = 0;
      unknown.push(value);
    };
    for (const id of SELECTS) choose(id, state[id]);
    fillSlices();
    if (slices.length) choose('slice', state.over);
    target.wanted = state.target;
    values.wanted = state.values;
    at('search').value = state.search;
    at('columns').checked = state.columns === 'all';
    sorted = { id: state.sort.replace(/^-/, ''), descending: state.sort.startsWith('-') };
    at('filters').open = SELECTS.some((id) => at(id).value);
    at('notice').hidden = !unknown.length;
    at('notice').textContent = `The address names what is not here (${unknown.join(', ')}): something else is shown.`;
  }

  function changed() {
    at('notice').hidden = true;
    load();
    remember();
  }

  fillFilters();
  recall(address.read());
  for (const [id] of FILTERS) {
    at(id).addEventListener('change', () => {
      fillSlices();
      changed();
    });
  }
  at('slice').addEventListener('change', changed);
  for (const id of ['category', 'declares', 'columns']) {
    at(id).addEventListener('change', () => {
      show();
      remember();
    });
  }
  at('search').addEventListener('input', () => {
    show();
    remember({ replace: true });
  });
  for (const id of ['a', 'b']) {
    at(id).addEventListener('change', () => {
      address.write({ ...address.read(), a: at('a').value, b: at('b').value });
      showPair();
    });
  }
  at('csv').addEventListener('click', saveCsv);
  watch.observe(at('pair'));
  load();
})();
