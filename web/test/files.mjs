// Files as visitors drop them.

/// An .npy file.
export function npy(shape, values, { type = "<f4", fortran = false, cut = 0 } = {}) {
  const arrays = { "<f4": Float32Array, "<f8": Float64Array, "<i4": Int32Array };
  const list = shape.join(", ") + (shape.length === 1 ? "," : "");
  const header = `{'descr': '${type}', 'fortran_order': ${fortran ? "True" : "False"}, 'shape': (${list}), }`;
  const text = header.padEnd(Math.ceil((10 + header.length + 1) / 64) * 64 - 11) + "\n";
  const start = Buffer.from([0x93, ...Buffer.from("NUMPY"), 1, 0, text.length & 255, text.length >> 8]);
  const elements = Buffer.from(new arrays[type](values).buffer);
  return Buffer.concat([start, Buffer.from(text), elements.subarray(0, elements.length - cut)]);
}

/// Drops files, of a name and bytes, on a page, and waits for what comes of it.
export async function drop(page, ...files) {
  const encoded = files.map(([name, bytes]) => [name, bytes.toString("base64")]);
  await page.call(async (files) => {
    const transfer = new DataTransfer();
    for (const [name, text] of files) {
      const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
      transfer.items.add(new File([bytes], name));
    }
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    await page.loading;
  }, encoded);
}
