/** Planes of the body, and how they are laid out. */

export type Plane = "axial" | "coronal" | "sagittal";
export type Layout = "all" | Plane | "render";

const ACROSS = { axial: 2, coronal: 1, sagittal: 0 } as const;

/** Return the axis across a plane, of those towards right, front and head. */
export function across(plane: Plane): 0 | 1 | 2 {
  return ACROSS[plane];
}
