// Types of the events of Standgale, generated from their JSON Schemas. Do not edit.

export interface ArchivedImage {
  frame_id: string;
  /** The path on the branch, for example images/drone-7/2026-05-01/12-00-00_a3f5.jpg */
  path: string;
}

export interface Box {
  x1: number;
  y1: number;
  x2: number;
  y2: number;
}

export interface CameraGeometry {
  /** Height above the ground (or above the take-off point), metres */
  altitude_m?: number | null;
  /** Height above mean sea level, metres */
  altitude_msl_m?: number | null;
  focal_length_mm?: number | null;
  sensor_width_mm?: number | null;
  latitude?: number | null;
  longitude?: number | null;
  /** Direction the top of the picture points to, degrees clockwise from north */
  heading_deg?: number | null;
  /** Gimbal pitch, degrees; -90 looks straight down */
  pitch_deg?: number | null;
  /** Metres on the ground per pixel, where known directly; wins over altitude and lens */
  gsd_m?: number | null;
}

export interface Canary {
  model: ModelRef;
  /** SHA-256 of its ONNX file; a version with a different file is refused */
  sha256?: string | null;
  /** The share of the frames of all other devices, decided by the frame's id: the same for a frame each time */
  share?: number;
  /** The devices whose frames all go to the canary */
  devices?: string[];
}

export interface ClassStatistics {
  label: string;
  detections: number;
  /** Frames with at least one of them */
  frames: number;
  mean_confidence: number;
}

export interface DetectOptions {
  /** The least score of a detection of any class; None where classes have their own in the card */
  confidence?: number | null;
  /** Boxes of one tile that overlap by more are one object */
  iou?: number | null;
  /** How the frame is cut; whole: not at all */
  mode?: "fixed" | "gsd" | "auto" | "whole" | null;
  overlap?: number | null;
  tile_width?: number | null;
  tile_height?: number | null;
  whole_frame?: boolean | null;
  /** auto: by the ground sampling distance, else by what a quick pass finds */
  scales?: number[] | "auto" | null;
  /** Metres of ground across a tile; needs the camera's geometry, and wins over the sides in pixels */
  tile_metres?: number | null;
  merge_method?: "nms" | "nmm" | "greedy_nmm" | "wbf" | null;
  merge_metric?: "iou" | "ios" | null;
  merge_threshold?: number | null;
  /** Boxes of different classes that overlap by more (IoU) show one thing, and the best stays; 1 settles none */
  settle?: number | null;
  max_detections?: number | null;
  /** Smaller boxes are left out: their area in square pixels of the frame */
  min_box_px?: number | null;
  /** What to look for, of a model that takes text: names of things, with dots between */
  prompt?: string | null;
}

export interface Detection {
  id: string;
  label: string;
  class_id: number;
  /** The model's score, 0 to 1, rounded to 4 decimals */
  confidence: number;
  /** Corners, normalised to the frame and rounded to 6 decimals */
  box: Box;
  /** The corners of a rotated box, clockwise as seen; then box is what encloses it within the frame */
  corners?: [Point, Point, Point, Point] | null;
  /** The rule that confirmed or relabelled it; none where no rule decided */
  rule?: RuleApplied | null;
}

export interface DroppedDetection {
  id: string;
  label: string;
  class_id: number;
  /** The model's score, 0 to 1, rounded to 4 decimals */
  confidence: number;
  /** Corners, normalised to the frame and rounded to 6 decimals */
  box: Box;
  /** The corners of a rotated box, clockwise as seen; then box is what encloses it within the frame */
  corners?: [Point, Point, Point, Point] | null;
  /** The rule that confirmed or relabelled it; none where no rule decided */
  rule?: RuleApplied | null;
  /** The rule that dropped it */
  dropped_by: string;
}

export interface FrameBatch {
  /** Computed from its frames */
  id: string;
  /** How many it has */
  frames: number;
}

export interface FrameTimes {
  /** From the device's clock to the gateway's: transfer, and what the two clocks differ */
  captured_to_received: Spread;
  /** How long the frames waited before a detector began with them */
  lag: Spread;
  received_to_detected: Spread;
  captured_to_detected: Spread;
}

export interface ImageRef {
  /** Address in the frame store: file: or s3: */
  uri: string;
  /** SHA-256 of the image's bytes, hexadecimal */
  sha256: string;
  size_bytes: number;
  media_type: "image/jpeg" | "image/png" | "image/tiff" | "image/webp";
  /** Pixels */
  width: number;
  /** Pixels */
  height: number;
}

export interface JobRules {
  /** What the rules are called, for people */
  name: string;
  /** The rules: ISO Prolog */
  text: string;
}

export type JsonValue = unknown;

export interface LostRange {
  first: number;
  end: number;
}

export interface ModelAvailability {
  model: ModelRef;
  /** Its role in the newest activation; former: it serves until the activated version is ready, or instead of it */
  role: "stable" | "canary" | "former";
  state: "none" | "downloading" | "converting" | "uploading" | "enabled" | "warning" | "error";
  /** Whether new frames are processed with it */
  serving: boolean;
  /** The engine that computes it, for example openvino */
  engine?: string | null;
  engine_reason?: string | null;
  /** What the version waits for, or why it was refused */
  detail?: string | null;
  /** When this state began, UTC */
  since: string;
  loaded_at?: string | null;
}

export interface ModelRef {
  name: string;
  version: string;
}

export interface OriginalRecord {
  topic: string;
  partition: number;
  offset: number;
  timestamp_ms: number;
  key: string | null;
  value: string | null;
  headers: [string, string][];
  /** Value and headers are left out: they are larger than the dead-letter topic takes */
  omitted?: boolean;
}

export interface Point {
  x: number;
  y: number;
}

export interface RuleApplied {
  /** As the rules file calls it */
  name: string;
  ruling: "confirmed" | "relabelled";
  /** What the model called a detection that was relabelled */
  former_label?: string | null;
}

export interface RulesReport {
  /** The name of the rules file */
  file: string;
  /** SHA-256 of the rules file, hexadecimal */
  sha256: string;
  /** What ran the rules, with its version; empty when nothing could */
  engine: string;
  elapsed_ms: number;
  /** What rules dropped, the best score first */
  dropped?: DroppedDetection[];
  /** How many detections each rule dropped, by its name */
  dropped_by_rule?: Record<string, number>;
  /** Why the rules gave no rulings; then the detections are what the model found */
  problem?: string | null;
}

export interface Spread {
  mean_ms: number;
  /** Half of the frames took at most so long; it and the next two are up to a tenth too high */
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
  max_ms: number;
}

export interface Timings {
  queued_ms: number;
  fetch_ms: number;
  decode_ms: number;
  inference_ms: number;
  merge_ms: number;
  total_ms: number;
}

export interface VideoPosition {
  /** The name of the file or camera, as its operator calls it */
  source: string;
  /** Seconds since the first frame of the source */
  presentation_time_s: number;
  /** Where captured_at comes from */
  clock: "option" | "telemetry" | "metadata" | "rtcp" | "arrival";
}

export interface FrameCaptured {
  /** Computed from device, capture time and content: the same frame always has the same id */
  frame_id: string;
  /** The device that took the frame; also the record's key */
  device_id: string;
  /** When the device took the frame, UTC */
  captured_at: string;
  /** When the gateway received the frame, UTC */
  received_at: string;
  image: ImageRef;
  camera?: CameraGeometry | null;
  /** What the device sent with the frame, unchanged */
  metadata?: Record<string, JsonValue>;
  original_filename?: string | null;
  /** The job the frame belongs to; none for live frames */
  job_id?: string | null;
  /** The place in a video; none for single images */
  video?: VideoPosition | null;
  /** The flight of the device that the frame belongs to, as the device names it */
  flight_id?: string | null;
  /** The batch in which the device sent it; none for a frame that was sent alone */
  batch?: FrameBatch | null;
  /** What this frame requests; for absent fields the model card decides */
  options?: DetectOptions;
  /** The model version of the store that this frame requests; none: the one that the worker serves */
  model?: ModelRef | null;
  /** The rules of this frame's job; none: those of the worker or of the model, if there are some */
  rules?: JobRules | null;
  /** Whether rules decide about its detections at all */
  use_rules?: boolean;
}

export interface DetectionsMade {
  /** Computed from frame, job and model version: a frame processed again has the same id again */
  id: string;
  /** Computed from device, capture time and content: the same frame always has the same id */
  frame_id: string;
  /** The device that took the frame; also the record's key */
  device_id: string;
  /** When the device took the frame, UTC */
  captured_at: string;
  /** When the gateway received the frame, UTC */
  received_at: string;
  /** When the detector finished the frame, UTC */
  detected_at: string;
  image: ImageRef;
  camera?: CameraGeometry | null;
  /** What the device sent with the frame, unchanged */
  metadata?: Record<string, JsonValue>;
  original_filename?: string | null;
  /** The job the frame belongs to; none for live frames */
  job_id?: string | null;
  /** The place in a video; none for single images */
  video?: VideoPosition | null;
  /** The flight of the device that the frame belongs to, as the device names it */
  flight_id?: string | null;
  /** The batch in which the device sent it; none for a frame that was sent alone */
  batch?: FrameBatch | null;
  model: ModelRef;
  /** The options that the frame was processed with */
  options: DetectOptions;
  /** The objects that were found, the best score first; may be empty */
  detections: Detection[];
  timings: Timings;
  /** Metres on the ground per pixel, where the camera's geometry is known */
  gsd_m?: number | null;
  /** The number of boxes left out as too large for their class, where gsd_m is known; many mean that gsd_m is wrong */
  too_large?: number | null;
  /** What rules did with the detections; none where there are no rules */
  rules?: RulesReport | null;
  /** The labels that class_id numbers, those of the model and then those of rules; none for frames of no job */
  classes?: string[] | null;
}

export interface DeadLetter {
  id: string;
  /** The consumer group that could not process the record */
  group: string;
  /** The error's stable code */
  reason: string;
  message: string;
  /** The number of attempts */
  attempts: number;
  /** When the last attempt failed, UTC */
  failed_at: string;
  device_id?: string | null;
  frame_id?: string | null;
  /** The model that a detector used for the frame; none of other consumers */
  model?: ModelRef | null;
  original: OriginalRecord;
  /** Set when this letter reports records that retention deleted before they were read; they cannot be re-driven. ``original`` then names the place of the first one */
  lost?: LostRange | null;
}

export interface ModelActivated {
  /** New for each activation, also for one of the same version */
  id: string;
  /** The roll-out lane: the workers whose setting detector.lane has this value */
  lane: string;
  /** The version that processes frames; none: what each worker's setting detector.model names */
  stable: ModelRef | null;
  /** SHA-256 of its ONNX file; a version with a different file is refused */
  sha256?: string | null;
  canary?: Canary | null;
  /** What a roll-back returns to; none: what each worker's setting names */
  previous?: ModelRef | null;
  previous_sha256?: string | null;
  activated_at: string;
  /** Who activated it */
  by?: string | null;
  /** Why */
  comment?: string | null;
}

export interface WorkerAvailability {
  lane: string;
  /** Its instance id, or a name that it chose when it started */
  worker: string;
  /** The newest activation that it has read */
  activation: string | null;
  /** Whether it has applied that activation: each of its models serves or is refused */
  settled: boolean;
  /** The most urgent state of all its models */
  state: "none" | "downloading" | "converting" | "uploading" | "enabled" | "warning" | "error";
  models: ModelAvailability[];
  reported_at: string;
  /** Seconds after which a worker without a newer report counts as ended */
  valid_s: number;
}

export interface JobFinished {
  /** Computed from the job: a job ends once */
  id: string;
  job_id: string;
  /** The job_id of its frames and detections events */
  job_uuid: string;
  /** The client that asked for the job */
  client_id: string;
  /** failed: not one file has a result */
  status: "completed" | "failed" | "cancelled";
  created_at: string;
  finished_at: string;
  total_images: number;
  /** Those that have an end, detected or failed; fewer than all only when the job was cancelled */
  processed_images: number;
  failed_images: number;
  total_detections: number;
  /** Why it failed: the error of its files, if they have one in common */
  error_code?: string | null;
  error_message?: string | null;
}

export interface StatisticsCounted {
  /** Computed from the window and its revision */
  id: string;
  /** Computed from device, minute, model and source: the same for all revisions */
  window_id: string;
  /** The device that took the frames; also the record's key */
  device_id: string;
  /** When the minute begins, UTC; a frame belongs to the minute in which it was captured */
  minute: string;
  /** The model version that detected them */
  model: ModelRef;
  source: "live" | "jobs";
  /** Of several events of a window, the one with the largest revision is right */
  revision: number;
  /** Frames that were detected, each once; one that two jobs asked for counts for both */
  frames: number;
  frames_with_detections: number;
  /** The frames by the 60 seconds of the minute */
  frames_per_s: number;
  first_captured_at: string;
  last_captured_at: string;
  /** When the latest of the frames was detected */
  last_detected_at: string;
  /** Frames that arrived before they were captured: the device's clock is ahead */
  clock_ahead: number;
  detections: number;
  /** The labels that were found, in alphabetical order; no more than the first 500 of them */
  classes: ClassStatistics[];
  /** Detections with labels that ``classes`` leaves out */
  other_detections: number;
  times: FrameTimes;
}

export interface ArchiveCommitted {
  /** Computed from commit and batch */
  id: string;
  /** Computed from the frames that were committed together; also in the metadata of the commit */
  batch_id: string;
  repository: string;
  branch: string;
  commit_id: string;
  committed_at: string;
  images: ArchivedImage[];
}

export interface ProbeSent {
  /** Host name and process id */
  process: string;
  sent_at: string;
}

/** The data of each event by its CloudEvents type. */
export interface EventsByType {
  "standgale.frame.captured.v1": FrameCaptured;
  "standgale.detections.made.v1": DetectionsMade;
  "standgale.dead.letter.v1": DeadLetter;
  "standgale.model.activated.v1": ModelActivated;
  "standgale.model.availability.v1": WorkerAvailability;
  "standgale.job.finished.v1": JobFinished;
  "standgale.statistics.counted.v1": StatisticsCounted;
  "standgale.archive.committed.v1": ArchiveCommitted;
  "standgale.probe.sent.v1": ProbeSent;
}
