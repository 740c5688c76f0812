export default function Steer() { return null; }
