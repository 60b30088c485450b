"use strict";
// The views of a report: a globe and a ball that turn, panels of angles with a brush. All of them show the same points,
// so what is chosen in one is marked in all. What tests look at is in data- attributes.
(() => {
  const source = document.getElementById("points");
  if (!source) return;
  const store = JSON.parse(source.textContent);
  const TURN = Math.PI / 180;
  const views = [];
  let chosen = null; // [set, index]
  let brushed = null; // for each set a list of booleans

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const palette = bytes(store.palette);
  const detail = document.getElementById("detail");
  const redraw = () => views.forEach((view) => view.draw());
  const shown = () => store.sets.map((set, k) => [set, k]).filter(([set]) => set.shown);

  function node(name, text, parent) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }

  function choose(k, i) {
    chosen = k === null ? null : [k, i];
    detail.textContent = "";
    detail.dataset.chosen = chosen ? `${store.sets[k].name} ${i}` : "";
    if (chosen) {
      const set = store.sets[k];
      node("strong", `${set.name}: ${set.names ? set.names[i] : `number ${i + 1}`}`, detail);
      const table = node("table", undefined, detail);
      store.header.forEach((name, column) => {
        const row = node("tr", undefined, table);
        node("td", name, row);
        node("td", String(set.rows[i][column]), row).className = "number";
      });
    } else node("span", "Click a point to see its values.", detail);
    redraw();
  }

  // the nearest of the points that are seen, within a finger's width
  function nearest(places, x, y) {
    let best = 14 * 14, found = [null, null];
    places.forEach(([px, py, k, i]) => {
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < best) [best, found] = [distance, [k, i]];
    });
    return found;
  }

  function prepare(canvas, height) {
    const width = canvas.clientWidth || 300, ratio = Math.min(window.devicePixelRatio || 1, 2);
    const rows = height === undefined ? width : height;
    if (canvas.width !== Math.round(width * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(rows * ratio);
      canvas.style.aspectRatio = `${width} / ${rows}`;
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, rows);
    return [pen, width, rows, ratio];
  }

  const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function dot(pen, x, y, colour, pale, ring) {
    pen.globalAlpha = pale ? 0.18 : 0.9;
    pen.beginPath();
    pen.arc(x, y, 2.3, 0, 2 * Math.PI);
    pen.fillStyle = colour;
    pen.fill();
    pen.globalAlpha = 1;
    if (ring) {
      pen.beginPath();
      pen.arc(x, y, 7, 0, 2 * Math.PI);
      pen.strokeStyle = "#ffffff";
      pen.lineWidth = 4;
      pen.stroke();
      pen.strokeStyle = "#d6006c";
      pen.lineWidth = 2;
      pen.stroke();
    }
  }

  const isChosen = (k, i) => chosen !== null && chosen[0] === k && chosen[1] === i;
  const isPale = (k, i) => brushed !== null && !brushed[k][i];

  // pointer and keys of what turns: `turn` is given differences in radians
  function turning(canvas, view) {
    let from = null, moved = 0;
    canvas.addEventListener("pointerdown", (event) => {
      from = [event.clientX, event.clientY];
      moved = 0;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      const [dx, dy] = [event.clientX - from[0], event.clientY - from[1]];
      moved += Math.abs(dx) + Math.abs(dy);
      from = [event.clientX, event.clientY];
      const scale = 2.2 / canvas.clientWidth;
      view.turn(dx * scale, dy * scale);
    });
    canvas.addEventListener("pointerup", (event) => {
      from = null;
      if (moved > 4) return;
      const box = canvas.getBoundingClientRect();
      choose(...nearest(view.places, event.clientX - box.left, event.clientY - box.top));
    });
    canvas.addEventListener("pointercancel", () => { from = null; });
    canvas.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!way) return;
      event.preventDefault();
      view.turn(way[0] * 10 * TURN, way[1] * 10 * TURN);
    });
  }

  // ---- a picture of a density: bytes by row from below, of the colours' range

  function picture(given) {
    if (!given) return null;
    const values = bytes(given.values), { rows, columns } = given;
    // bilinear, at fractions of the width and height
    return (across, up) => {
      const x = Math.min(Math.max(across * columns - 0.5, 0), columns - 1.001);
      const y = Math.min(Math.max(up * rows - 0.5, 0), rows - 1.001);
      const i = Math.floor(x), j = Math.floor(y), u = x - i, v = y - j, at = j * columns + i;
      return (1 - v) * ((1 - u) * values[at] + u * values[at + 1])
        + v * ((1 - u) * values[at + columns] + u * values[at + columns + 1]);
    };
  }

  // ---- the globe

  // the auxiliary angle of the Mollweide projection over the latitude
  const THETA = Float64Array.from({ length: 2001 }, (_, k) => {
    const latitude = (k / 1000 - 1) * Math.PI / 2;
    let theta = latitude;
    for (let n = 0; n < 60; n += 1) {
      const slope = 2 + 2 * Math.cos(2 * theta);
      if (slope < 1e-9) break;
      theta -= (2 * theta + Math.sin(2 * theta) - Math.PI * Math.sin(latitude)) / slope;
    }
    return Math.max(-Math.PI / 2, Math.min(Math.PI / 2, theta));
  });

  function globe(canvas, given, index) {
    const density = picture(given.density);
    const coast = given.coast ? new Int16Array(bytes(given.coast).buffer) : null;
    const view = { places: [], rotation: given.centre.slice() }; // longitude and latitude of the middle, degrees
    view.turn = (dx, dy) => {
      view.rotation[0] = ((view.rotation[0] - dx / TURN + 540) % 360) - 180;
      view.rotation[1] = Math.max(-90, Math.min(90, view.rotation[1] + dy / TURN));
      view.draw();
    };
    view.draw = () => {
      const [pen, width, , ratio] = prepare(canvas);
      const radius = width / 2 - 4, middle = width / 2;
      const lon0 = view.rotation[0] * TURN, sin0 = Math.sin(view.rotation[1] * TURN), cos0 = Math.cos(view.rotation[1] * TURN);
      canvas.dataset.rotation = view.rotation.map((value) => value.toFixed(2)).join(",");
      const forward = (longitude, latitude) => {
        const lon = longitude * TURN - lon0, lat = latitude * TURN, c = Math.cos(lat), s = Math.sin(lat);
        const depth = sin0 * s + cos0 * c * Math.cos(lon);
        return [middle + radius * c * Math.sin(lon), middle - radius * (cos0 * s - sin0 * c * Math.cos(lon)), depth];
      };
      pen.beginPath();
      pen.arc(middle, middle, radius, 0, 2 * Math.PI);
      pen.fillStyle = theme("--card");
      pen.fill();
      if (density) {
        const size = canvas.width, image = pen.createImageData(size, size), half = size / 2, r = radius * ratio;
        for (let row = 0; row < size; row += 1) {
          const up = (half - row - 0.5) / r;
          for (let column = 0; column < size; column += 1) {
            const right = (column + 0.5 - half) / r, rest = 1 - right * right - up * up;
            if (rest < 0) continue;
            const depth = Math.sqrt(rest);
            const latitude = Math.asin(Math.max(-1, Math.min(1, cos0 * up + sin0 * depth)));
            let lon = Math.atan2(right, cos0 * depth - sin0 * up) + lon0;
            lon -= 2 * Math.PI * Math.round(lon / (2 * Math.PI));
            const theta = THETA[Math.round((latitude / Math.PI + 0.5) * 2000)];
            const value = density(0.5 + lon / Math.PI * Math.cos(theta) / 2, 0.5 + Math.sin(theta) / 2);
            const from = 3 * Math.round(value), to = 4 * (row * size + column);
            image.data[to] = palette[from];
            image.data[to + 1] = palette[from + 1];
            image.data[to + 2] = palette[from + 2];
            image.data[to + 3] = 255;
          }
        }
        pen.putImageData(image, 0, 0);
      }
      const line = (points, colour, thick) => {
        pen.beginPath();
        let down = false;
        points.forEach(([longitude, latitude]) => {
          const [x, y, depth] = longitude === null ? [0, 0, -1] : forward(longitude, latitude);
          if (depth < 0) { down = false; return; }
          if (down) pen.lineTo(x, y); else pen.moveTo(x, y);
          down = true;
        });
        pen.strokeStyle = colour;
        pen.lineWidth = thick;
        pen.stroke();
      };
      const steps = Array.from({ length: 91 }, (_, k) => k * 4 - 180);
      for (let k = -60; k <= 60; k += 30) line(steps.map((lon) => [lon, k]), "#80808066", 0.7);
      for (let k = -180; k < 180; k += 30) line(steps.map((lat) => [k, lat / 2]), "#80808066", 0.7);
      if (coast) {
        const points = [];
        for (let k = 0; k < coast.length; k += 2) {
          points.push(coast[k] === 32767 ? [null, null] : [coast[k] / 100, coast[k + 1] / 100]);
        }
        line(points, density ? "#ffffffb0" : theme("--pale"), 0.9);
      }
      view.places = [];
      let ring = null;
      shown().forEach(([set, k]) => set.places[given.part].forEach(([latitude, longitude], i) => {
        const [x, y, depth] = forward(longitude, latitude);
        if (depth < 0) return;
        view.places.push([x, y, k, i]);
        if (isChosen(k, i)) ring = [x, y, set.colour]; else dot(pen, x, y, set.colour, isPale(k, i), false);
      }));
      if (ring) dot(pen, ...ring, false, true);
      pen.beginPath();
      pen.arc(middle, middle, radius, 0, 2 * Math.PI);
      pen.strokeStyle = theme("--pale");
      pen.lineWidth = 1;
      pen.stroke();
    };
    turning(canvas, view);
    return view;
  }

  // ---- the ball of rotation vectors

  function ball(canvas, given, index) {
    // rows of the matrix that turns the ball
    const view = { places: [], matrix: [[1, 0, 0], [0, 0, 1], [0, -1, 0]] };
    const times = (a, b) => a.map((row) => [0, 1, 2].map((j) => row.reduce((sum, value, k) => sum + value * b[k][j], 0)));
    view.turn = (dx, dy) => {
      const [c, s, d, t] = [Math.cos(dx), Math.sin(dx), Math.cos(dy), Math.sin(dy)];
      const about = times([[1, 0, 0], [0, d, -t], [0, t, d]], [[c, 0, s], [0, 1, 0], [-s, 0, c]]);
      // y points up here and down on the screen
      view.matrix = times([[about[0][0], -about[0][1], about[0][2]], [-about[1][0], about[1][1], -about[1][2]],
        [about[2][0], -about[2][1], about[2][2]]], view.matrix);
      view.draw();
    };
    view.draw = () => {
      const [pen, width] = prepare(canvas), middle = width / 2, radius = width / 2 - 22;
      canvas.dataset.rotation = view.matrix.flat().map((value) => value.toFixed(3)).join(",");
      const forward = (x) => {
        const [right, up, near] = view.matrix.map((row) => (row[0] * x[0] + row[1] * x[1] + row[2] * x[2]) / Math.PI);
        return [middle + radius * right, middle - radius * up, near];
      };
      pen.beginPath();
      pen.arc(middle, middle, radius, 0, 2 * Math.PI);
      pen.fillStyle = theme("--card");
      pen.fill();
      pen.strokeStyle = theme("--pale");
      pen.lineWidth = 1;
      pen.stroke();
      pen.font = "13px system-ui, sans-serif";
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      ["x", "y", "z"].forEach((name, k) => {
        const end = [0, 0, 0];
        end[k] = Math.PI;
        const [x, y] = forward(end);
        pen.beginPath();
        pen.moveTo(2 * middle - x, 2 * middle - y);
        pen.lineTo(x, y);
        pen.strokeStyle = "#80808099";
        pen.lineWidth = 1;
        pen.stroke();
        pen.fillStyle = theme("--ink");
        pen.fillText(name, middle + (x - middle) * 1.06, middle + (y - middle) * 1.06);
      });
      const seen = [];
      shown().forEach(([set, k]) => set.places[given.part].forEach((x, i) => seen.push([...forward(x), k, i, set.colour])));
      seen.sort((a, b) => a[2] - b[2]); // the nearest last
      view.places = seen.map(([x, y, , k, i]) => [x, y, k, i]);
      let ring = null;
      seen.forEach(([x, y, near, k, i, colour]) => {
        if (isChosen(k, i)) { ring = [x, y, colour]; return; }
        pen.globalAlpha = isPale(k, i) ? 0.12 : 0.45 + 0.4 * near;
        pen.beginPath();
        pen.arc(x, y, 2 + 0.9 * near, 0, 2 * Math.PI);
        pen.fillStyle = colour;
        pen.fill();
        pen.globalAlpha = 1;
      });
      if (ring) dot(pen, ...ring, false, true);
    };
    turning(canvas, view);
    return view;
  }

  // ---- panels of two angles, with a brush

  function angles(canvas, given, index) {
    const density = picture(given.density), [a, b] = given.pair, view = { places: [], box: null };
    const report = document.getElementById(`brush-${index}`);
    const edge = 34;
    view.draw = () => {
      const [pen, width] = prepare(canvas), size = width - edge - 8;
      view.size = size;
      const forward = ([x, y]) => [edge + (x + 180) / 360 * size, 8 + (180 - y) / 360 * size];
      pen.fillStyle = theme("--card");
      pen.fillRect(edge, 8, size, size);
      if (density) {
        // small, and enlarged by the browser
        const cells = 180, small = document.createElement("canvas");
        small.width = small.height = cells;
        const brush = small.getContext("2d"), image = brush.createImageData(cells, cells);
        for (let row = 0; row < cells; row += 1) {
          for (let column = 0; column < cells; column += 1) {
            const from = 3 * Math.round(density((column + 0.5) / cells, 1 - (row + 0.5) / cells));
            image.data.set([palette[from], palette[from + 1], palette[from + 2], 255], 4 * (row * cells + column));
          }
        }
        brush.putImageData(image, 0, 0);
        pen.drawImage(small, edge, 8, size, size);
      }
      pen.font = "11px system-ui, sans-serif";
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      [-180, -90, 0, 90, 180].forEach((angle) => {
        const [x, y] = forward([angle, angle]);
        pen.strokeStyle = "#80808055";
        pen.lineWidth = 0.7;
        pen.beginPath();
        pen.moveTo(x, 8);
        pen.lineTo(x, 8 + size);
        pen.moveTo(edge, y);
        pen.lineTo(edge + size, y);
        pen.stroke();
        pen.fillStyle = theme("--pale");
        const half = Math.abs(angle) === 180 ? 8 * Math.sign(angle) : 0;
        pen.fillText(`${angle}°`.replace("-", "−"), x - half, 8 + size + 9);
        pen.fillText(`${angle}°`.replace("-", "−"), edge - 17, y + half);
      });
      view.places = [];
      let ring = null;
      shown().forEach(([set, k]) => set.places[given.part].forEach((place, i) => {
        const [x, y] = forward([place[a], place[b]]);
        view.places.push([x, y, k, i]);
        if (isChosen(k, i)) ring = [x, y, set.colour]; else dot(pen, x, y, set.colour, isPale(k, i), false);
      }));
      if (ring) dot(pen, ...ring, false, true);
      if (view.box) {
        const [[left, top], [right, bottom]] = [forward(view.box[0]), forward(view.box[1])];
        pen.strokeStyle = "#d6006c";
        pen.lineWidth = 1.5;
        pen.strokeRect(left, top, right - left, bottom - top);
      }
    };
    const angle = (event) => {
      const box = canvas.getBoundingClientRect(), clip = (value) => Math.max(-180, Math.min(180, value));
      return [clip((event.clientX - box.left - edge) / view.size * 360 - 180),
        clip(180 - (event.clientY - box.top - 8) / view.size * 360)];
    };
    let start = null, from = null;
    canvas.addEventListener("pointerdown", (event) => {
      start = angle(event);
      from = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!start || Math.abs(event.clientX - from[0]) + Math.abs(event.clientY - from[1]) < 5) return;
      views.forEach((other) => { other.box = null; });
      const end = angle(event);
      view.box = [[Math.min(start[0], end[0]), Math.max(start[1], end[1])],
        [Math.max(start[0], end[0]), Math.min(start[1], end[1])]];
      const [[left, top], [right, bottom]] = view.box;
      brushed = store.sets.map((set) => set.places[given.part].map((place) =>
        place[a] >= left && place[a] <= right && place[b] >= bottom && place[b] <= top));
      describe();
      redraw();
    });
    canvas.addEventListener("pointerup", (event) => {
      const still = from && Math.abs(event.clientX - from[0]) + Math.abs(event.clientY - from[1]) < 5;
      start = from = null;
      if (!still) return;
      brushed = null;
      views.forEach((other) => { other.box = null; });
      describe();
      const box = canvas.getBoundingClientRect();
      choose(...nearest(view.places, event.clientX - box.left, event.clientY - box.top));
    });
    canvas.addEventListener("pointercancel", () => { start = from = null; });
    const describe = () => {
      const parts = brushed === null ? [] : store.sets.map((set, k) => {
        const count = brushed[k].filter(Boolean).length;
        return `${(100 * count / Math.max(1, brushed[k].length)).toFixed(1)} % of ${set.name} (${count})`;
      });
      document.querySelectorAll("[data-brush]").forEach((other) => { other.textContent = ""; });
      report.textContent = parts.length ? `In the box: ${parts.join(", ")}.` : "";
    };
    return view;
  }

  // ---- all of them

  const kinds = { globe, ball, angles };
  store.views.forEach((given, index) => {
    const canvas = document.getElementById(`view-${index}`);
    views.push(kinds[given.kind](canvas, given, index));
  });
  store.sets.forEach((set, k) => {
    const box = document.getElementById(`set-${k}`);
    set.shown = box.checked;
    box.addEventListener("change", () => {
      set.shown = box.checked;
      redraw();
    });
  });
  window.addEventListener("resize", redraw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  choose(null, null);
})();
