// Tests one after another, a line each.

export const failures = [];
let passed = 0;

/// What the names of the tests that run match; all of them without.
const pattern = new RegExp(process.argv[3] ?? "");

export async function test(name, body) {
  if (!pattern.test(name)) return;
  const start = performance.now();
  try {
    const said = await body();
    passed++;
    console.log(`ok      ${name} (${Math.round(performance.now() - start)} ms)${said ? `: ${said}` : ""}`);
  } catch (error) {
    failures.push(name);
    console.log(`FAILED  ${name}: ${error.stack}`);
  }
}

export function summary() {
  console.log(`${passed} passed, ${failures.length} failed`);
  return failures.length === 0 && passed > 0;
}

export function equal(found, expected, what) {
  const [a, b] = [found, expected].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`${what}: expected ${b}, found ${a}`);
}

export function close(found, expected, tolerance, what) {
  if (!(Math.abs(found - expected) <= tolerance)) {
    throw new Error(`${what}: expected ${expected} within ${tolerance}, found ${found}`);
  }
}

export function holds(condition, what) {
  if (!condition) throw new Error(what);
}
