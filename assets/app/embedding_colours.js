/* Colours and shapes of the map: a palette that colour-blind people can tell apart, on white as on
   slate; beyond its ten colours the shape changes. Numbers get a scale cut at the 2nd and 98th
   percentile, so that one stray value does not grey out the rest. */
const PALETTE = [
  "#4477AA",
  "#EE6677",
  "#228833",
  "#CCBB44",
  "#66CCEE",
  "#AA3377",
  "#E69F00",
  "#44AA99",
  "#9988DD",
  "#AA7744",
];
const SHAPES = ["circle", "square", "diamond", "triangle-up", "cross", "pentagon"];
const MARKS = ["●", "■", "◆", "▲", "✚", "⬟"];
const SCALE = ["#5b02a3", "#9a179b", "#cb4678", "#eb7852", "#fbb32f"];
const NOTHING = "#8a94a3";
const STEPS = 64;

function category(number) {
  if (number < 0) return { colour: NOTHING, shape: "circle", mark: "●" };
  const shape = Math.floor(number / PALETTE.length) % SHAPES.length;
  return { colour: PALETTE[number % PALETTE.length], shape: SHAPES[shape], mark: MARKS[shape] };
}

function mixed(share) {
  const at = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1);
  const low = Math.min(Math.floor(at), SCALE.length - 2);
  const channel = (text, from) => parseInt(text.slice(from, from + 2), 16);
  const parts = [1, 3, 5].map((from) => {
    const [begin, end] = [channel(SCALE[low], from), channel(SCALE[low + 1], from)];
    return Math.round(begin + (end - begin) * (at - low));
  });
  return `rgb(${parts.join(",")})`;
}

const RAMP = Array.from({ length: STEPS }, (_, step) => mixed(step / (STEPS - 1)));

/* Colours and shapes by row, and what the legend says: entries, or a scale with two ends. */
function colouring(data, by) {
  if (by === "margin" || by === "outlier") {
    const values = data[by];
    const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
    const at = (share) => sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)];
    const low = sorted.length ? at(0.02) : 0;
    const high = sorted.length ? at(0.98) : 1;
    const width = high - low || 1;
    const colours = values.map((value) =>
      value === null
        ? NOTHING
        : RAMP[Math.round(Math.min(Math.max((value - low) / width, 0), 1) * (STEPS - 1))],
    );
    return { colours, shapes: null, scale: { low, high, missing: sorted.length < values.length } };
  }
  const numbers = data[by];
  const names =
    by === "cls"
      ? data.classes.map((entry) => entry.readable)
      : by === "split"
        ? ["training", "test"]
        : Array.from({ length: Math.max(...numbers, -1) + 1 }, (_, k) => `cluster ${k}`);
  const styles = names.map((_, number) => category(number));
  const none = category(-1);
  const style = (number) => (number < 0 ? none : styles[number]);
  const entries = names.map((name, number) => ({ name, number, ...styles[number] }));
  if (by === "cluster") entries.push({ name: "in none", number: -1, ...none });
  return {
    colours: numbers.map((number) => style(number).colour),
    shapes: names.length > PALETTE.length ? numbers.map((number) => style(number).shape) : null,
    entries,
  };
}
