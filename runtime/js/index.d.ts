import type { InferenceSession, Tensor } from "onnxruntime-common";

/** An array with its sides; a `Tensor` of ONNX Runtime is one. */
export interface Values {
  readonly type?: string;
  readonly data: ArrayLike<number | bigint | string | boolean>;
  readonly dims: readonly number[];
}

/** Tensors by name. */
export type Tensors = { readonly [name: string]: Values };

/**
 * One input, without the batch axis: a tensor; an array of values, if at most one side of the input is free; or the
 * pixels of an image, for a file with the input `image`. Of a file with several inputs, one of these by name.
 */
export type Input = One | { readonly [name: string]: One };
type One = Values | List | Tensor["data"] | { data: Uint8ClampedArray; width: number; height: number };
type List = readonly (number | bigint | boolean | string)[];

/** Inputs with the batch axis [n, ...]: a tensor, or one by name if the file has several inputs. */
export type Inputs = Values | Tensors;

/** What to send to the remote instead of the input: a text, or tensors like the input. */
export type Original = string | Values | Tensors;

/** Which model the label came from. */
export type Source = "local" | "remote" | "merged";

/** Why the answer has that source. All but the first mean that the policy wanted to forward the input. */
export type Reason = "confident" | "offloaded" | "not a number" | "deadline" | "offline" | "remote error" | "egress";

/** The prediction of one model for one input. */
export interface Prediction {
  /** Index of the class; -1 for a general task. */
  readonly label: number;
  /** Calibrated probability that the label is right, or NaN. Of a general task, the expected value of a local answer. */
  readonly confidence: number;
  /** Calibrated, one per class; empty for a general task. */
  readonly probabilities: Float32Array;
  /** The model's outputs by name, without the batch axis. */
  readonly outputs: Tensors;
}

/** What the file decides about n inputs, as columns. */
export interface Columns {
  /** Index of each class; -1 for a general task. */
  readonly label: Int32Array;
  readonly confidence: Float32Array;
  /** Expected accuracy, or value, of the local answer minus the remote's; NaN where the confidence is NaN. */
  readonly advantage: Float32Array;
  /** 1 where the policy wants the input forwarded, otherwise 0. */
  readonly forward: Uint8Array;
  /** Calibrated, [n, classes]; [n, 0] for a general task. */
  readonly probabilities: Values;
}

/** The answer to one input. */
export interface Answer extends Prediction {
  /** Name of the class; empty for a general task. */
  readonly name: string;
  readonly source: Source;
  readonly reason: Reason;
  readonly advantage: number;
  /** The local model's prediction. */
  readonly local: Prediction;
  /** The remote's prediction, or null if it was not asked or did not reply in time. */
  readonly remote: Prediction | null;
  /** One sentence about why the remote failed; otherwise empty. */
  readonly detail: string;
  /** Seconds from the call to the answer. */
  readonly elapsed: number;
}

/** A large model elsewhere. */
export interface Remote {
  /**
   * Return the scores [n, classes] of n inputs; or, if `names` is given, the outputs [n, ...] of these names, or all of
   * them if it is empty.
   */
  infer(inputs: Tensors, options: { signal: AbortSignal; names?: readonly string[] }): Promise<Values | Tensors>;
  /** Names of its classes, in the order of its scores, if they may be in another order than in calibration. */
  readonly classNames?: readonly string[];
  close?(): void | Promise<void>;
}

/** A model at `http[s]://host[:port]/v2/models/NAME[/versions/VERSION]`, over the Open Inference Protocol v2. */
export class OpenInference implements Remote {
  /**
   * @param url its address; in a browser it may be relative to the page
   * @param options `headers` of every request; `input` and `output`, where they are not evident; `binary`, whether
   *   tensors travel in binary: by default, the first reply tells whether the server reads that
   */
  constructor(
    url: string | URL,
    options?: { headers?: Record<string, string>; input?: string; output?: string; binary?: boolean },
  );
  readonly classNames: readonly string[];
  infer(inputs: Tensors, options?: { signal?: AbortSignal; names?: readonly string[] }): Promise<Values | Tensors>;
}

export interface LoadOptions {
  /** The document of the file, as an object or as JSON; by default the one in the file. */
  document?: object | string;
  /** Address of a model for `OpenInference`, a function like `Remote.infer`, or a remote. Without one, all is local. */
  remote?: string | URL | Remote | Remote["infer"];
  /** Seconds from a call to its answer; by default 1. */
  deadline?: number;
  /** Forward inputs whose advantage is below this, instead of the file's threshold. */
  threshold?: number;
  /** Outputs of the file to have in the answers; by default none of a classifier, and all those of a general task. */
  outputs?: readonly string[];
  /** Return whether an input, as tensors [1, ...] by name as they would be sent, may leave the device. */
  egress?: (input: Tensors) => boolean;
  /** Options of ONNX Runtime's session. */
  session?: InferenceSession.SessionOptions;
  /** Another build of ONNX Runtime, such as `onnxruntime-web/webgpu`. */
  ort?: { InferenceSession: typeof InferenceSession; Tensor: typeof Tensor };
}

/** One cascade file, and optionally a remote that it may ask. */
export class Cascade {
  private constructor();
  /**
   * Load a cascade file. It opens no connection to the remote.
   *
   * @param file a path (in Node), an address, the file's bytes, or an open session; a session needs `document`
   * @throws ModelFileError, ArgumentError
   */
  static load(
    file: string | URL | Uint8Array | ArrayBuffer | InferenceSession,
    options?: LoadOptions,
  ): Promise<Cascade>;
  /** The document of the file; docs/file-format.md describes it. */
  readonly document: any;
  /** Names of the classes; empty for a general task. */
  readonly labels: readonly string[];
  /** Inputs whose advantage is below this are forwarded. It may change at any time. */
  threshold: number;
  /**
   * Return the answer to one input, by the deadline. Nothing that the remote does makes it throw.
   *
   * @throws InputError: the input does not fit the file
   */
  predict(x: Input, options?: { original?: Original | null }): Promise<Answer>;
  /** Return the answers to inputs [n, ...], in order, all by one deadline. */
  predictBatch(x: Inputs, options?: { originals?: readonly string[] | Values | Tensors | null }): Promise<Answer[]>;
  /** Return what the file decides about inputs [n, ...], as columns. Nothing is sent. */
  decide(x: Inputs): Promise<Columns>;
  /** Close the remote, and release the session after the runs that have begun. Later calls throw EdgecascadeError. */
  close(): Promise<void>;
}

export class EdgecascadeError extends Error {}
export class ModelFileError extends EdgecascadeError {}
export class ArgumentError extends EdgecascadeError {}
export class InputError extends EdgecascadeError {}
export class RemoteError extends EdgecascadeError {}
export class RemoteUnreachable extends RemoteError {}
export class RemoteRefusal extends RemoteError {
  readonly status: number;
}
export class InvalidReply extends RemoteError {}
