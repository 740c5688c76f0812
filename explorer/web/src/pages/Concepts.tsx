export default function Concepts() { return <main id="main" className="page" />; }
