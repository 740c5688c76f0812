export default function Atlas() { return <main id="main" className="page" />; }
