/** Numbers as Python writes them, so that tables and messages of both are the same. */

const MOST_DIGITS = 100;

/** Return a number with so many significant digits, as `f"{value:.3g}"` does; halves go to even. */
export function general(value: number, digits: number): string {
  if (!Number.isFinite(value)) return value > 0 ? "inf" : value < 0 ? "-inf" : "nan";
  if (Object.is(value, -0)) return "-0";
  const [rounded, exponent] = halfEven(
    value.toExponential(MOST_DIGITS),
    value.toExponential(digits - 1),
  ).split("e");
  const power = Number(exponent);
  if (power >= -4 && power < digits) {
    return withoutZeros(Number(`${rounded}e${power}`).toFixed(digits - 1 - power));
  }
  const size = String(Math.abs(power)).padStart(2, "0");
  return `${withoutZeros(rounded)}e${power < 0 ? "-" : "+"}${size}`;
}

/** Return a number rounded to so many decimals, as `str(round(value, 6))` does. */
export function rounded(value: number, decimals: number): string {
  const number = Number(halfEven(value.toFixed(MOST_DIGITS), value.toFixed(decimals)));
  if (number === 0) return value < 0 || Object.is(value, -0) ? "-0.0" : "0.0";
  if (Number.isInteger(number)) return `${number}.0`;
  if (Math.abs(number) >= 1e-4) return String(number);
  return number.toExponential().replace(/e-(\d)$/, "e-0$1");
}

/** Return a rounded decimal, but towards the even digit where the exact one is halfway. */
function halfEven(exact: string, rounded: string): string {
  const [mantissa, exponent = ""] = exact.split("e");
  const [kept, ending = ""] = rounded.split("e");
  const rest = mantissa.slice(mantissa.indexOf(".") + 1 + decimalsOf(kept));
  if (exponent !== ending || !/^50*$/.test(rest)) return rounded;
  const down = mantissa.slice(0, mantissa.length - rest.length).replace(/\.$/, "");
  return "02468".includes(down.slice(-1)) ? rounded.replace(kept, down) : rounded;
}

function decimalsOf(decimal: string): number {
  return decimal.split(".")[1]?.length ?? 0;
}

function withoutZeros(decimal: string): string {
  return decimal.includes(".") ? decimal.replace(/\.?0+$/, "") : decimal;
}
