// What all pages share: elements, figures, data, filters. Text from submissions only ever becomes text nodes.
'use strict';

const stsBoard = (() => {
  const up = document.body.dataset.up;
  const received = new Map();
  const waiting = new Map();
  const NONE = '–';

  /** An element with attributes and children; strings become text. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    set(element, attributes);
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  /** An SVG element. */
  function draw(tag, attributes = {}, ...children) {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    set(element, attributes);
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  function set(element, attributes) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) element.setAttribute(name, value);
    }
  }

  /** A link within the site, or plain text where there is no address. */
  function link(text, page) {
    return make('a', { href: up + page }, text);
  }

  function figure(value, digits = 2) {
    return value === null || value === undefined ? NONE : value.toFixed(digits).replace('-', '−');
  }

  function range(low, high) {
    return low === null || high === null ? '' : `[${figure(low)}, ${figure(high)}]`;
  }

  /** A count with a prefix: 12, 3.4k, 5.6M. */
  function count(value) {
    if (value === null) return NONE;
    if (value !== 0 && (value >= 1e15 || value < 0.01)) return value.toExponential(1);
    const steps = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];
    const step = steps.find(([size]) => value >= size);
    return step ? `${Number((value / step[0]).toPrecision(3))}${step[1]}` : `${Number(value.toPrecision(3))}`;
  }

  /** Rows of a compact table as objects. */
  function unpack(columns, rows) {
    return rows.map((row) => Object.fromEntries(columns.map((column, i) => [column, row[i]])));
  }

  /** The data of this very page. */
  function embedded() {
    return JSON.parse(document.getElementById('data').textContent);
  }

  /** Called by data files. */
  function receive(id, value) {
    received.set(id, value);
    for (const resolve of waiting.get(id) || []) resolve(value);
    waiting.delete(id);
  }

  /** A data file's content; the file is read when it is first asked for. */
  function data(id) {
    if (received.has(id)) return Promise.resolve(received.get(id));
    return new Promise((resolve, reject) => {
      const others = waiting.get(id);
      if (others) {
        others.push(resolve);
        return;
      }
      waiting.set(id, [resolve]);
      script(`data/${id}.js`).catch(reject);
    });
  }

  /** Loads a script of the site; file:// pages can load data in no other way. */
  function script(path) {
    return new Promise((resolve, reject) => {
      const element = make('script', { src: up + path });
      element.addEventListener('load', () => resolve());
      element.addEventListener('error', () => reject(new Error(`cannot load ${path}`)));
      document.head.append(element);
    });
  }

  /** Fills a select with values, the first of which stands for all. */
  function options(select, values, all = null) {
    const kept = select.value;
    select.replaceChildren();
    if (all !== null) select.append(make('option', { value: '' }, all));
    for (const value of values) select.append(make('option', { value }, value));
    if ([...select.options].some((option) => option.value === kept)) select.value = kept;
  }

  /** A group of buttons of which one is pressed: the one that the reader wants, or the first that can be had. */
  function switches(name, onChange) {
    const buttons = [...document.querySelectorAll(`[data-switch="${name}"] button`)];
    const pressed = () => buttons.find((button) => button.getAttribute('aria-pressed') === 'true');
    let wanted = pressed().value;
    const settle = () => {
      const open = buttons.filter((button) => !button.disabled);
      const chosen = open.find((button) => button.value === wanted) || open[0];
      for (const button of buttons) button.setAttribute('aria-pressed', String(button === chosen));
    };
    for (const button of buttons) {
      button.addEventListener('click', () => {
        wanted = button.value;
        settle();
        onChange();
      });
    }
    return {
      get value() {
        return pressed().value;
      },
      get wanted() {
        return wanted;
      },
      set wanted(value) {
        if (buttons.some((button) => button.value === value)) wanted = value;
        settle();
      },
      enable(values) {
        for (const button of buttons) button.disabled = !values.includes(button.value);
        settle();
      },
    };
  }

  /**
   * What is chosen on a page, in its address: it can be shared, and the back button takes a choice back.
   * defaults: name to value, left out of the address; apply(state): called when the reader goes back or forward.
   */
  function address(defaults, apply) {
    const read = () => {
      const given = new URLSearchParams(location.search);
      return Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, given.get(name) ?? value]));
    };
    const query = (state) => new URLSearchParams(Object.entries(state).filter(([name, value]) => value !== defaults[name])).toString();
    let shown = query(read());
    window.addEventListener('popstate', () => {
      if (query(read()) === shown) return; // an anchor within the page
      shown = query(read());
      apply(read());
    });
    return {
      read,
      /** Puts a state into the address; as a step that can be taken back, or in place of the last one. */
      write(state, { replace = false } = {}) {
        if (query(state) === shown) return;
        shown = query(state);
        history[replace ? 'replaceState' : 'pushState'](null, '', shown ? `?${shown}` : location.pathname);
      },
    };
  }

  /** Whether all words of a search are in a text. */
  function matches(search, text) {
    return search.toLowerCase().split(/\s+/).every((word) => text.toLowerCase().includes(word));
  }

  /** Rows as CSV, for spreadsheets too: text that they would take for a formula is made inert. */
  function csv(rows) {
    const cell = (value) => {
      if (value === null || value === undefined) return '';
      const text = typeof value === 'string' && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return rows.map((row) => row.map(cell).join(',')).join('\r\n') + '\r\n';
  }

  /** Hands a text to the reader as a file. */
  function download(name, text) {
    const url = URL.createObjectURL(new Blob([text], { type: 'text/csv;charset=utf-8' }));
    make('a', { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  /** Fills in a badge, real or synthetic, and what a reader must know of such models. */
  function badge(element, world) {
    element.replaceChildren(make('span', { class: `badge ${world}` }, world), ` ${stsBoard.worlds[world]}`);
  }

  const unique = (values) => [...new Set(values)].sort();

  return {
    make, draw, link, figure, range, count, unpack, embedded, receive, data, script, options, switches, unique, address, matches, csv, download, badge, up, NONE,
    entries: [], specs: {}, slices: [], worlds: {},
  };
})();
