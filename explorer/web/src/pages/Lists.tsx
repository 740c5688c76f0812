export default function Lists() { return <main id="main" className="page" />; }
