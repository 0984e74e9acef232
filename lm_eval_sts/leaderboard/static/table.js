// Tables that sort within their groups, and the cells that they share.
'use strict';

stsBoard.table = (() => {
  const { make, draw, link, figure, range, count, NONE } = stsBoard;
  const WIDTH = 170;
  const HEIGHT = 20;
  const MARGIN = 6;

  const position = (r) => MARGIN + ((r + 1) / 2) * (WIDTH - 2 * MARGIN);

  /** A correlation from −1 to 1 with its interval, over what is expected for a perfect predictor. */
  function interval(row) {
    const middle = HEIGHT / 2;
    const svg = draw('svg', { class: 'interval', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, 'aria-hidden': 'true' });
    svg.append(draw('line', { class: 'axis', x1: position(-1), x2: position(1), y1: middle, y2: middle }));
    svg.append(draw('line', { class: 'zero', x1: position(0), x2: position(0), y1: 3, y2: HEIGHT - 3 }));
    if (row.ceiling !== null && row.ceiling !== undefined) {
      const left = position(row.ceiling_low);
      svg.append(draw('rect', { class: 'zone', x: left, y: 2, width: Math.max(1, position(row.ceiling_high) - left), height: HEIGHT - 4 }));
      svg.append(draw('line', { class: 'ceiling', x1: position(row.ceiling), x2: position(row.ceiling), y1: 2, y2: HEIGHT - 2 }));
    }
    if (row.low !== null) svg.append(draw('line', { class: 'bar', x1: position(row.low), x2: position(row.high), y1: middle, y2: middle }));
    if (row.value !== null) svg.append(draw('circle', { class: 'dot', cx: position(row.value), cy: middle, r: 4 }));
    return svg;
  }

  /** The axis of the intervals below it. */
  function axis() {
    const svg = draw('svg', { class: 'scale', viewBox: `0 0 ${WIDTH} 12`, width: WIDTH, height: 12, 'aria-hidden': 'true' });
    for (const [r, text, anchor] of [[-1, '−1', 'start'], [0, '0', 'middle'], [1, '1', 'end']]) {
      svg.append(draw('text', { x: r === 0 ? position(0) : r < 0 ? 0 : WIDTH, y: 10, 'text-anchor': anchor }, text));
    }
    return svg;
  }

  function placed(row) {
    if (row.best === null || row.best === undefined) return NONE;
    return row.best === row.worst ? `${row.best}` : `${row.best}–${row.worst}`;
  }

  /** The places that an entry may have among all, as figures and as a band. */
  function place(row, of) {
    if (row.best === null || row.best === undefined) return NONE;
    const width = 52;
    const x = (width * (row.best - 1)) / of;
    const svg = draw('svg', { class: 'place', viewBox: `0 0 ${width} 8`, width, height: 8, 'aria-hidden': 'true' },
      draw('rect', { class: 'track', x: 0, y: 2, width, height: 4, rx: 2 }),
      draw('rect', { class: 'band', x, y: 1, width: Math.max(3, (width * (row.worst - row.best + 1)) / of), height: 6, rx: 3 }));
    return make('span', { class: 'placed' }, placed(row), svg);
  }

  function correlation(row) {
    if (row.value === null) return make('span', { class: 'undefined', title: row.undefined || null }, row.undefined ? `undefined: ${row.undefined}` : 'undefined');
    return make('span', { class: 'r' }, make('b', {}, figure(row.value)), ' ', make('span', { class: 'range' }, range(row.low, row.high)));
  }

  /** Small words that qualify an entry. */
  function marks(entry, target) {
    const found = [];
    if (entry.target !== target) found.push(['≠', `declares the ${entry.target === 'delta' ? 'signed change' : 'size of the change'}`]);
    if (entry.sealed) {
      const [revealed, seals] = entry.seals;
      found.push([`sealed, ${revealed} of ${seals} shown`, `predictions for ${entry.sealed} SFT runs were sealed before the outcome; of ${seals} seals by this submitter ${revealed} are revealed`]);
    }
    if (entry.same.length) {
      const more = entry.same.length > 1 ? ` and ${entry.same.length - 1} more` : '';
      found.push([`same order as ${entry.same[0]}${more}`, `puts the domains into the same order as ${entry.same.join(', ')} (Spearman above .999 in most shared SFT runs)`]);
    }
    if (entry.fitted) found.push(['fitted', 'fitted on measured changes; see its page']);
    return found.map(([text, title]) => make('abbr', { class: 'mark', title }, text));
  }

  /** Title, where it is not the name again, and the first sentence of the description; of published scores first the caveat. */
  function described(entry) {
    const title = entry.name.startsWith(`${entry.title}/`) ? '' : entry.title;
    const parts = entry.category === 'published' ? [entry.summary, title] : [title, entry.summary];
    return parts.filter(Boolean).join(entry.category === 'published' ? '; ' : ': ');
  }

  function predictor(entry, target) {
    const text = described(entry);
    return make('span', { class: 'who' }, link(entry.name, entry.page), ...marks(entry, target), make('small', { title: text, class: entry.category === 'published' ? 'caveat' : null }, text));
  }

  function category(entry) {
    return make('span', { class: `category ${entry.category}` }, entry.category);
  }

  function compare(a, b) {
    if (a === null || a === undefined) return b === null || b === undefined ? 0 : 1;
    if (b === null || b === undefined) return -1;
    return typeof a === 'string' ? a.localeCompare(b) : a - b;
  }

  const OFTEN = 0.8;

  const labelOf = (column) => (typeof column.label === 'function' ? column.label() : column.label);

  /** What a column says in nearly all rows; null where it says several things. */
  function constant(column, rows) {
    const counts = new Map();
    for (const row of rows) counts.set(column.value(row), (counts.get(column.value(row)) || 0) + 1);
    const [value, times] = [...counts].sort(([, a], [, b]) => b - a)[0] || [null, 0];
    return times > 0 && times >= OFTEN * rows.length ? { value } : null;
  }

  /**
   * A table in `container`.
   * columns: {id, label or label(), value(row), cell(row), numeric, head, className, hint, optional}
   * sorted: {id, descending}; onSort is called when the reader sorts.
   * show(groups, {all}): groups are {title, rows}; a group without rows is left out. Optional columns that say the same
   * in nearly all rows with a value are left out too, unless all are wanted; `onHide` is called with those.
   */
  function table(container, { caption, columns, sorted = null, rowClass = () => null, onSort = () => {}, onHide = () => {} }) {
    const state = { column: null, descending: true, groups: [], hidden: new Set() };
    const headings = columns.map((column, i) => {
      const button = make('button', { type: 'button', title: column.hint }, make('span', {}, labelOf(column)), make('span', { class: 'arrow', 'aria-hidden': 'true' }));
      button.addEventListener('click', () => sort(i));
      return make('th', { scope: 'col', class: column.className }, button, column.head ? column.head() : null);
    });
    const element = make('table', {}, make('caption', { class: 'hidden' }, caption), make('thead', {}, make('tr', {}, ...headings)));
    container.replaceChildren(make('div', { class: 'scroll', role: 'region', 'aria-label': caption, tabindex: '0' }, element));
    order(sorted);

    function order(wanted) {
      const at = columns.findIndex((column) => wanted && column.id === wanted.id);
      state.column = at < 0 ? null : at;
      state.descending = Boolean(wanted && wanted.descending);
    }

    function sort(i) {
      state.descending = state.column === i ? !state.descending : Boolean(columns[i].numeric) && !columns[i].ascending;
      state.column = i;
      render();
      onSort({ id: columns[i].id, descending: state.descending });
    }

    function ordered(rows) {
      if (state.column === null) return rows;
      const { value } = columns[state.column];
      const direction = state.descending ? -1 : 1;
      return rows
        .map((row) => [value(row), row])
        .sort(([a], [b]) => {
          const missing = [a, b].some((one) => one === null || one === undefined);
          return (missing ? 1 : direction) * compare(a, b); // what is missing stays last both ways
        })
        .map(([, row]) => row);
    }

    /** A row's element, made once: sorting and filtering only move it. */
    function line(row) {
      row.line ||= make('tr', { class: rowClass(row) }, ...columns.map((column) => make(
        column.header ? 'th' : 'td', { class: column.className, scope: column.header ? 'row' : null }, column.cell(row),
      )));
      [...row.line.cells].forEach((cell, i) => { cell.hidden = state.hidden.has(i); });
      return row.line;
    }

    function render() {
      headings.forEach((heading, i) => {
        heading.hidden = state.hidden.has(i);
        heading.querySelector('button span').textContent = labelOf(columns[i]);
        if (i === state.column) heading.setAttribute('aria-sort', state.descending ? 'descending' : 'ascending');
        else heading.removeAttribute('aria-sort');
      });
      const width = columns.length - state.hidden.size;
      for (const body of [...element.tBodies]) body.remove();
      for (const group of state.groups) {
        const body = make('tbody', {});
        if (group.title) {
          body.append(make('tr', { class: 'group' }, make('th', { scope: 'colgroup', colspan: width }, make('span', {}, group.title))));
        }
        body.append(...ordered(group.rows).map(line));
        element.append(body);
      }
      if (!state.groups.length) {
        element.append(make('tbody', {}, make('tr', {}, make('td', { colspan: width, class: 'empty' }, 'Nothing to show.'))));
      }
    }

    return {
      show(groups, { all = true, sorted: wanted = null } = {}) {
        state.groups = groups.filter((group) => group.rows.length);
        if (wanted) order(wanted);
        const rows = state.groups.flatMap((group) => group.rows).filter((row) => row.value !== null);
        const hidden = columns.flatMap((column, i) => {
          const found = all || !column.optional || i === state.column ? null : constant(column, rows);
          return found ? [{ i, label: labelOf(column), value: found.value }] : [];
        });
        state.hidden = new Set(hidden.map(({ i }) => i));
        onHide(hidden);
        render();
      },
      /** The rows in the order in which they stand there. */
      rows: () => state.groups.flatMap((group) => ordered(group.rows)),
    };
  }

  const byEntry = (row) => stsBoard.entries[row.entry];

  /** Columns that several pages show. */
  const columns = {
    predictor: (target) => ({ id: 'predictor', label: 'Predictor', header: true, className: 'name told', value: (row) => byEntry(row).name, cell: (row) => predictor(byEntry(row), target()) }),
    category: { id: 'category', label: 'Category', value: (row) => byEntry(row).category, cell: (row) => category(byEntry(row)) },
    value: { id: 'correlation', label: 'Correlation', numeric: true, className: 'number', value: (row) => row.value, cell: correlation },
    bars: { id: 'low', label: '95% interval', numeric: true, head: axis, hint: 'Sorts by the lower end', value: (row) => row.low, cell: interval },
    ceiling: { id: 'ceiling', label: 'Noise ceiling', numeric: true, optional: true, className: 'number', hint: 'Expected for a predictor that knows every true change', value: (row) => row.ceiling, cell: (row) => figure(row.ceiling) },
    cost: { id: 'tokens', label: 'Tokens', numeric: true, ascending: true, optional: true, className: 'number', hint: 'Token equivalents of one SFT run', value: (row) => row.cost, cell: (row) => count(row.cost) },
    seconds: { id: 'seconds', label: 'Seconds', numeric: true, ascending: true, optional: true, className: 'number', value: (row) => row.seconds, cell: (row) => count(row.seconds) },
    rank: {
      id: 'spearman', label: 'Spearman', numeric: true, className: 'number', value: (row) => row.rank_value,
      cell: (row) => make('span', { class: 'r' }, figure(row.rank_value), ' ', make('span', { class: 'range' }, row.rank_value === null ? '' : range(row.rank_low, row.rank_high))),
    },
    rankCeiling: { id: 'rank_ceiling', label: 'Ceiling (Spearman)', numeric: true, className: 'number', value: (row) => row.rank_ceiling, cell: (row) => figure(row.rank_ceiling) },
    runs: { id: 'runs', label: 'SFT runs', numeric: true, optional: true, className: 'number', value: (row) => row.settings, cell: (row) => `${row.settings}` },
    domains: { id: 'domains', label: 'Domains', numeric: true, optional: true, className: 'number', value: (row) => row.domains, cell: (row) => `${row.domains}` },
  };

  return Object.assign(table, { columns, place, placed, interval, described });
})();
