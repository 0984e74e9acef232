// Two entries side by side: what they are, where they stand, and run by run.
'use strict';

stsBoard.pair = (() => {
  const { make, draw, link, figure, range, count, unpack, entries, NONE } = stsBoard;
  const WIDTH = 190;
  const HEIGHT = 16;

  /** Both correlations of one SFT run on the axis from −1 to 1. */
  function dots(values) {
    const x = (r) => 6 + ((r + 1) / 2) * (WIDTH - 12);
    const svg = draw('svg', { class: 'interval', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, 'aria-hidden': 'true' },
      draw('line', { class: 'axis', x1: x(-1), x2: x(1), y1: HEIGHT / 2, y2: HEIGHT / 2 }),
      draw('line', { class: 'zero', x1: x(0), x2: x(0), y1: 2, y2: HEIGHT - 2 }));
    values.forEach((value, i) => {
      if (value !== null) svg.append(draw('circle', { class: i ? 'dot hollow' : 'dot', cx: x(value), cy: HEIGHT / 2, r: 4 }));
    });
    return svg;
  }

  /** What is known of both; `rows` are their rows on the board. */
  function facts(rows) {
    const both = rows.map((row) => entries[row.entry]);
    const said = [
      ['What it is', both.map((entry) => stsBoard.table.described(entry))],
      ['Category', both.map((entry) => entry.category)],
      ['Declares', both.map((entry) => (entry.target === 'delta' ? 'signed change Δ' : 'size |Δ|'))],
      ['Place', rows.map((row) => (row.best ? `${stsBoard.table.placed(row)} of ${row.of}` : NONE))],
      ['Correlation', rows.map((row) => `${figure(row.value)} ${range(row.low, row.high)}`)],
      ['Tokens', rows.map((row) => count(row.cost))],
      ['Seconds', rows.map((row) => count(row.seconds))],
      ['Submitter', both.map((entry) => entry.submitter)],
    ];
    return make('table', { class: 'facing' },
      make('caption', { class: 'hidden' }, 'What is known of both entries'),
      make('thead', {}, make('tr', {}, make('td', {}), ...both.map((entry, i) => make('th', { scope: 'col' },
        make('span', { class: i ? 'key dot hollow' : 'key dot', 'aria-hidden': 'true' }), link(entry.name, entry.page))))),
      make('tbody', {}, ...said.map(([name, values]) => make('tr', {}, make('th', { scope: 'row' }, name), ...values.map((value) => make('td', {}, value))))));
  }

  /** Raw correlations of both in each of the SFT runs that both predict. */
  async function runs(settings, target, rows) {
    const files = await Promise.all(settings.map((name) => stsBoard.data(`settings/${name}`)));
    return files.flatMap((file, i) => {
      const found = unpack(file.columns, file.tables[`${target}/raw`] || []);
      const values = rows.map((row) => found.find((one) => one.entry === row.entry)?.value ?? null);
      if (values.includes(null)) return [];
      return [{ name: settings[i], values, difference: values[0] - values[1] }];
    });
  }

  /** Shows two rows of the board; `current` says whether they are still the ones that are wanted. */
  async function pair(container, slice, target, rows, current) {
    const found = await runs(slice.settings, target, rows);
    if (!current()) return;
    const higher = found.filter((run) => run.difference > 0).length;
    const lower = found.filter((run) => run.difference < 0).length;
    const [one, other] = rows.map((row) => entries[row.entry].name);
    const place = make('div', {});
    container.replaceChildren(make('div', { class: 'scroll' }, facts(rows)),
      make('p', { class: 'verdict' }, found.length
        ? `${one} has the higher raw correlation in ${higher} and ${other} in ${lower} of ${found.length} SFT runs in which both are defined.`
        : 'There is no SFT run in which both are defined.'), place);
    const number = (label, id, value) => ({ id, label, numeric: true, className: 'number', value, cell: (run) => figure(value(run)) });
    stsBoard.table(place, {
      caption: 'Both entries run by run',
      columns: [
        { id: 'run', label: 'SFT run', header: true, className: 'name', value: (run) => run.name, cell: (run) => link(run.name, `settings/${run.name}.html`) },
        number(one, 'one', (run) => run.values[0]),
        number(other, 'other', (run) => run.values[1]),
        number('Difference', 'difference', (run) => run.difference),
        { id: 'dots', label: '−1 … 1', value: (run) => run.values[0], cell: (run) => dots(run.values) },
      ],
      sorted: { id: 'difference', descending: true },
    }).show([{ title: null, rows: found }]);
  }

  return pair;
})();
