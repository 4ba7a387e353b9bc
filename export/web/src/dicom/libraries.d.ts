/** What the page uses of libraries that come without types. */
declare module "@niivue/dcm2niix" {
  interface Call {
    b(value: "n"): Call;
    z(value: "n"): Call;
    p(value: "n"): Call;
    m(value: "y"): Call;
    x(value: "i"): Call;
    f(name: string): Call;
    run(): Promise<File[]>;
  }
  export class Dcm2niix {
    worker: Worker | null;
    init(): Promise<true>;
    input(files: readonly File[]): Call;
  }
}

declare module "dcmjs" {
  interface Data {
    DicomMetaDictionary: {
      denaturalizeDataset(dataset: Record<string, unknown>): Record<string, unknown>;
    };
    DicomDict: new (
      meta: Record<string, unknown>,
    ) => { dict: Record<string, unknown>; write(): ArrayBuffer };
  }
  const dcmjs: { data: Data; log: { setLevel(level: string): void } };
  export default dcmjs;
}
